//! `hotpair link`: heartbeat links, as edits of the configuration.

use crate::args::Change;
use crate::failure::Failure;
use crate::session::{self, Outcome, Session};
use crate::words;
use clap::{Args, Subcommand};
use hotpair_core::config::{Cluster, Link};
use hotpair_core::ids::MemberId;
use std::net::SocketAddr;

/// Heartbeat links: list, add, remove, re-order, re-address while everything runs.
#[derive(Debug, Subcommand)]
pub enum LinkCommand {
    /// List the links, the most preferred first.
    List,
    /// Add a link, least preferred, with an address for every node.
    Add(AddressesArgs),
    /// Remove a link.
    Remove(NameArgs),
    /// Say which links are preferred.
    Order(OrderArgs),
    /// Change addresses of a link.
    Set(AddressesArgs),
}

#[derive(Debug, Args)]
pub struct AddressesArgs {
    link: String,
    #[arg(value_name = "NODE=IP[:PORT]", required = true, value_parser = words::named_address)]
    addresses: Vec<(String, SocketAddr)>,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub struct NameArgs {
    link: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub struct OrderArgs {
    /// All links, the most preferred first: lan,direct.
    #[arg(value_delimiter = ',', required = true)]
    links: Vec<String>,
    #[command(flatten)]
    change: Change,
}

pub fn run(session: &Session, command: LinkCommand) -> Outcome {
    match command {
        LinkCommand::List => list(session),
        LinkCommand::Add(args) => edit(session, args.change, |cluster| add(cluster, &args)),
        LinkCommand::Remove(args) => {
            edit(session, args.change, |cluster| remove(cluster, &args.link))
        }
        LinkCommand::Order(args) => {
            edit(session, args.change, |cluster| order(cluster, &args.links))
        }
        LinkCommand::Set(args) => edit(session, args.change, |cluster| set(cluster, &args)),
    }
}

/// Takes the configuration in force, changes it and applies it.
fn edit(
    session: &Session,
    change: Change,
    edit: impl FnOnce(&mut Cluster) -> Result<(), Failure>,
) -> Outcome {
    let mut cluster = super::config::present(session)?.0;
    edit(&mut cluster)?;
    super::config::apply_text(
        session,
        "configuration",
        &hotpair_config::show(&cluster),
        change.dry_run,
    )
}

fn list(session: &Session) -> Outcome {
    let cluster = super::config::present(session)?.0;
    let links: Vec<_> = cluster
        .links
        .iter()
        .map(|link| {
            let ends = link
                .addresses
                .iter()
                .map(|(&node, address)| (cluster.name_of(node), address.to_string()));
            (
                link.name.clone(),
                ends.collect::<std::collections::BTreeMap<_, _>>(),
            )
        })
        .collect();
    let object: Vec<_> = links
        .iter()
        .map(|(name, ends)| serde_json::json!({ "name": name, "addresses": ends }))
        .collect();
    session.show(&object, || {
        let rows = links.iter().map(|(name, ends)| {
            let mut row = vec![name.clone()];
            row.extend(
                ends.iter()
                    .map(|(node, address)| format!("{node} {address}")),
            );
            row
        });
        crate::output::columns(&rows.collect::<Vec<_>>())
    })
}

fn add(cluster: &mut Cluster, args: &AddressesArgs) -> Result<(), Failure> {
    if cluster.links.iter().any(|link| link.name == args.link) {
        return Err(
            Failure::refused(format!("there is a link `{}` already", args.link)).hint(format!(
                "`hotpair link set {} NODE=IP` changes its addresses",
                args.link
            )),
        );
    }
    let mut link = Link {
        name: args.link.clone(),
        addresses: std::collections::BTreeMap::new(),
    };
    for (name, address) in &args.addresses {
        link.addresses.insert(member(cluster, name)?, *address);
    }
    let missing: Vec<_> = cluster
        .nodes
        .iter()
        .filter(|(id, _)| !link.addresses.contains_key(id))
        .map(|(_, node)| format!("{}=IP", node.name))
        .collect();
    if !missing.is_empty() {
        return Err(Failure::refused("a link needs an address for every node")
            .hint(format!("add {}", missing.join(" "))));
    }
    cluster.links.push(link);
    Ok(())
}

fn remove(cluster: &mut Cluster, name: &str) -> Result<(), Failure> {
    let at = place(cluster, name)?;
    if cluster.links.len() == 1 {
        return Err(Failure::refused(format!("`{name}` is the only link"))
            .hint("add another one first: `hotpair link add NAME NODE=IP…`"));
    }
    cluster.links.remove(at);
    Ok(())
}

fn order(cluster: &mut Cluster, names: &[String]) -> Result<(), Failure> {
    let mut ordered = Vec::new();
    for name in names {
        let at = place(cluster, name)?;
        ordered.push(cluster.links[at].clone());
    }
    let mut given: Vec<_> = names.iter().collect();
    given.sort();
    given.dedup();
    if given.len() != names.len() || names.len() != cluster.links.len() {
        let links: Vec<_> = cluster
            .links
            .iter()
            .map(|link| link.name.as_str())
            .collect();
        return Err(
            Failure::refused("name every link once").hint(format!("links: {}", links.join(", ")))
        );
    }
    cluster.links = ordered;
    Ok(())
}

fn set(cluster: &mut Cluster, args: &AddressesArgs) -> Result<(), Failure> {
    let at = place(cluster, &args.link)?;
    for (name, address) in &args.addresses {
        let id = member(cluster, name)?;
        cluster.links[at].addresses.insert(id, *address);
    }
    Ok(())
}

fn place(cluster: &Cluster, name: &str) -> Result<usize, Failure> {
    let links: Vec<_> = cluster
        .links
        .iter()
        .map(|link| link.name.as_str())
        .collect();
    links
        .iter()
        .position(|link| *link == name)
        .ok_or_else(|| session::no_such("link", name, &links))
}

fn member(cluster: &Cluster, name: &str) -> Result<MemberId, Failure> {
    let found = cluster.nodes.iter().find(|(_, node)| node.name == name);
    found.map(|(&id, _)| id).ok_or_else(|| {
        let names: Vec<_> = cluster
            .nodes
            .values()
            .map(|node| node.name.as_str())
            .collect();
        session::no_such("node", name, &names)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        let text = "[cluster]\nname = \"c\"\n[[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n\
            [[link]]\nname = \"lan\"\naddresses = { a = \"10.0.0.1\", b = \"10.0.0.2\" }\n\
            [[link]]\nname = \"direct\"\naddresses = { a = \"10.1.0.1\", b = \"10.1.0.2\" }\n";
        hotpair_config::check("test", text, None)
            .expect("a valid configuration")
            .cluster
    }

    fn args(link: &str, addresses: &[&str]) -> AddressesArgs {
        let addresses = addresses
            .iter()
            .map(|text| words::named_address(text).unwrap())
            .collect();
        AddressesArgs {
            link: link.into(),
            addresses,
            change: Change { dry_run: false },
        }
    }

    fn names(cluster: &Cluster) -> Vec<&str> {
        cluster
            .links
            .iter()
            .map(|link| link.name.as_str())
            .collect()
    }

    #[test]
    fn new_link_is_least_preferred_and_has_an_address_for_every_node() {
        let mut cluster = cluster();
        let refused = add(&mut cluster, &args("third", &["a=10.2.0.1"])).unwrap_err();
        assert_eq!(refused.hint.as_deref(), Some("add b=IP"));
        add(&mut cluster, &args("third", &["a=10.2.0.1", "b=10.2.0.2"])).unwrap();
        assert_eq!(names(&cluster), ["lan", "direct", "third"]);
        assert!(add(&mut cluster, &args("third", &["a=10.2.0.1"])).is_err());
        let text = hotpair_config::show(&cluster);
        assert_eq!(
            hotpair_config::check("t", &text, None)
                .unwrap()
                .cluster
                .links,
            cluster.links
        );
    }

    #[test]
    fn order_names_every_link_once() {
        let mut cluster = cluster();
        for bad in [
            &["direct"][..],
            &["lan", "lan"],
            &["lan", "other"],
            &["lan", "direct", "lan"],
        ] {
            let bad: Vec<_> = bad.iter().map(|&name| name.to_owned()).collect();
            assert!(order(&mut cluster, &bad).is_err(), "{bad:?}");
        }
        order(&mut cluster, &["direct".to_owned(), "lan".to_owned()]).unwrap();
        assert_eq!(names(&cluster), ["direct", "lan"]);
    }

    #[test]
    fn last_link_stays() {
        let mut cluster = cluster();
        remove(&mut cluster, "lan").unwrap();
        assert!(remove(&mut cluster, "direct").is_err());
        assert_eq!(names(&cluster), ["direct"]);
    }

    #[test]
    fn address_of_one_node_is_changed() {
        let mut cluster = cluster();
        set(&mut cluster, &args("direct", &["b=10.1.0.9"])).unwrap();
        assert_eq!(
            cluster.links[1].addresses[&MemberId(2)],
            "10.1.0.9:14338".parse().unwrap()
        );
        assert_eq!(
            cluster.links[1].addresses[&MemberId(1)],
            "10.1.0.1:14338".parse().unwrap()
        );
        assert!(set(&mut cluster, &args("direct", &["c=10.1.0.9"])).is_err());
    }
}
