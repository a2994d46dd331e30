//! `ask` and `simulate` lines.

use super::{World, cluster};
use hotpair_core::config::Cluster;
use hotpair_core::ids::{GroupId, HostBoot, MemberId, ResourceId};
use hotpair_core::operate;
use hotpair_core::plan::Fault;
use hotpair_core::request::{Request, Scope};

impl World {
    /// The answer; what is accepted is committed.
    pub fn ask(&mut self, words: &[&str]) -> Result<(), String> {
        let request = self.request(words)?;
        match operate::apply(&self.view(), &request) {
            Ok(accepted) => {
                self.say(&format!("  accepted: {}", accepted.text));
                for change in &accepted.changes {
                    let text = change.text(&self.document.config);
                    self.say(&format!("  > {text}"));
                }
                accepted.apply(&mut self.document);
                if !accepted.changes.is_empty() {
                    self.document.version.index += 1;
                }
            }
            Err(refusal) => self.say(&format!("  refused: {refusal}")),
        }
        Ok(())
    }

    fn request(&self, words: &[&str]) -> Result<Request, String> {
        let group = |name: &&str| GroupId::from(*name);
        Ok(match words {
            ["start", g] => Request::GroupStart {
                group: group(g),
                on: None,
            },
            ["start", g, n] => Request::GroupStart {
                group: group(g),
                on: Some(self.node(n)),
            },
            ["stop", g] => Request::GroupStop { group: group(g) },
            ["switch", g] => Request::GroupSwitch {
                group: group(g),
                to: None,
            },
            ["switch", g, n] => Request::GroupSwitch {
                group: group(g),
                to: Some(self.node(n)),
            },
            ["enable", g, n @ ..] => Request::GroupEnable {
                group: group(g),
                node: self.one(n),
            },
            ["disable", g, n @ ..] => Request::GroupDisable {
                group: group(g),
                node: self.one(n),
            },
            ["clear", g, n @ ..] => Request::GroupClear {
                group: group(g),
                node: self.one(n),
            },
            ["resource-start", g, r] => Request::ResourceStart {
                group: group(g),
                resource: ResourceId::from(*r),
            },
            ["resource-stop", g, r] => Request::ResourceStop {
                group: group(g),
                resource: ResourceId::from(*r),
            },
            ["resource-restart", g, r] => Request::ResourceRestart {
                group: group(g),
                resource: ResourceId::from(*r),
            },
            ["maintenance", on, scope @ ..] => Request::Maintenance {
                scope: self.scope(scope)?,
                on: *on == "on",
            },
            ["disarm"] => Request::Disarm,
            ["arm"] => Request::Arm,
            ["drain", n] => Request::NodeDrain { node: self.node(n) },
            ["undrain", n] => Request::NodeUndrain { node: self.node(n) },
            ["leave", n] => Request::Leave {
                nodes: [self.node(n)].into(),
                force: false,
            },
            ["leave-together", force, nodes @ ..] => Request::Leave {
                nodes: nodes.iter().map(|n| self.node(n)).collect(),
                force: *force == "force",
            },
            ["form-alone", n] => Request::FormAlone { node: self.node(n) },
            ["remove", n] => Request::NodeRemove { node: self.node(n) },
            ["clear-node", n] => Request::NodeClear { node: self.node(n) },
            ["renew", g, r, n, overwrite @ ..] => Request::MirrorRenew {
                group: group(g),
                resource: ResourceId::from(*r),
                node: self.node(n),
                overwrite: !overwrite.is_empty(),
            },
            ["keep", g, r, n] => Request::MirrorKeep {
                group: group(g),
                resource: ResourceId::from(*r),
                node: self.node(n),
            },
            ["fence", n] => Request::NodeFence { node: self.node(n) },
            ["fenced", n, "by", by, said @ ..] => Request::NodeFenced {
                node: self.node(n),
                boot: self.boot(n),
                by: self.node(by),
                result: match said {
                    [] => Ok(()),
                    words => Err(words.join(" ")),
                },
            },
            ["is-down", n] => Request::NodeIsDown { node: self.node(n) },
            ["configure", made_from, edit @ ..] => Request::Configure {
                config: Box::new(self.edited(edit)?),
                made_from: made_from.parse().map_err(|_| "no revision")?,
            },
            _ => return Err("unknown request".into()),
        })
    }

    fn one(&self, words: &[&str]) -> Option<MemberId> {
        words.first().map(|name| self.node(name))
    }

    /// The boot of a member that was heard last.
    fn boot(&self, name: &str) -> HostBoot {
        use hotpair_core::plan::Presence;
        match self.members.get(&self.node(name)).map(|view| view.presence) {
            Some(
                Presence::Online { boot }
                | Presence::Silent { boot, .. }
                | Presence::Down { boot, .. },
            ) => boot,
            _ => HostBoot::UNHEARD,
        }
    }

    /// A name nobody has stands for a member that does not exist.
    fn node(&self, name: &str) -> MemberId {
        self.member(name).unwrap_or(MemberId(77))
    }

    fn scope(&self, words: &[&str]) -> Result<Scope, String> {
        Ok(match words {
            ["node", n] => Scope::Node(self.node(n)),
            ["group", g] => Scope::Group(GroupId::from(*g)),
            ["group", g, "on", n] => Scope::GroupOnNode(GroupId::from(*g), self.node(n)),
            ["resource", g, r] => Scope::Resource(GroupId::from(*g), ResourceId::from(*r)),
            _ => return Err("unknown scope".into()),
        })
    }

    /// The present configuration with one edit.
    fn edited(&self, words: &[&str]) -> Result<Cluster, String> {
        let mut config = self.document.config.clone();
        match words {
            [] => {}
            ["add-node", name] => {
                let last = config.nodes.keys().last().map_or(0, |id| id.0);
                config.nodes.insert(MemberId(last + 1), cluster::node(name));
            }
            ["drop-node", name] => {
                let node = self.node(name);
                config.nodes.remove(&node);
                for group in config.groups.values_mut() {
                    group.nodes.retain(|&n| n != node);
                }
            }
            ["drop-group", name] => {
                config.groups.remove(&GroupId::from(*name));
            }
            ["copy-group", from, to] => {
                let group = config.groups[&GroupId::from(*from)].clone();
                config.groups.insert(GroupId::from(*to), group);
            }
            ["unlist", group, node] => {
                let node = self.node(node);
                let group = config
                    .groups
                    .get_mut(&GroupId::from(*group))
                    .ok_or("no group")?;
                group.nodes.retain(|&n| n != node);
            }
            ["resources", group, names @ ..] => {
                let group = config
                    .groups
                    .get_mut(&GroupId::from(*group))
                    .ok_or("no group")?;
                group.resources = cluster::resources(names);
            }
            ["stop-timeout", group, resource] => {
                let group = config
                    .groups
                    .get_mut(&GroupId::from(*group))
                    .ok_or("no group")?;
                let resource = group.resources.get_mut(&ResourceId::from(*resource));
                resource.ok_or("no resource")?.stop_timeout *= 2;
            }
            ["priority", group] => {
                let group = config
                    .groups
                    .get_mut(&GroupId::from(*group))
                    .ok_or("no group")?;
                group.priority += 1;
            }
            ["no-witness"] => config.witness = None,
            ["other-cluster"] => config.id.0 += 1,
            _ => return Err("unknown edit".into()),
        }
        Ok(config)
    }

    pub fn fault(&self, words: &[&str]) -> Result<Fault, String> {
        Ok(match words {
            ["witness"] => Fault::Witness,
            ["link", name] => Fault::Link((*name).into()),
            ["node", name] => Fault::Node(self.node(name)),
            ["resource", g, r] => Fault::Resource(GroupId::from(*g), ResourceId::from(*r)),
            _ => return Err("unknown fault".into()),
        })
    }
}
