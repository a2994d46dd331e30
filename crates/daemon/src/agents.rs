//! The OCF agents of this node, for the check of configurations and for people.
//!
//! Asking an agent runs it, which the daemon's task must not wait for: a conversation asks first, and
//! the task takes what is known by then.

use hotpair_config::{AgentAnswer, AgentForm, Agents, MAX_META_DATA};
use hotpair_host::ocf::{Agent, ROOT};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long all agents of one text may take together.
const TOGETHER: Duration = Duration::from_secs(20);

/// Most agents that are remembered.
const MAX_KNOWN: usize = 1_000;

/// What agents said, with what their file was then.
static KNOWN: Mutex<BTreeMap<PathBuf, (Stamp, AgentAnswer)>> = Mutex::new(BTreeMap::new());

/// Tells a changed file from the one that was asked: time of change, number, size.
type Stamp = (i64, i64, u64, u64);

/// The agents of this node.
pub struct Installed {
    root: PathBuf,
    language: String,
    /// Runs agents that are not known yet, until then.
    until: Option<Instant>,
}

impl Installed {
    /// Asks those that are not known, for at most 20 s together. Blocks.
    #[must_use]
    pub fn asking() -> Self {
        Self {
            root: ROOT.into(),
            language: language(),
            until: Some(Instant::now() + TOGETHER),
        }
    }

    /// Only what is known. Does not block.
    #[must_use]
    pub fn known() -> Self {
        Self {
            until: None,
            ..Self::asking()
        }
    }
}

impl Agents for Installed {
    fn ask(&self, provider: &str, agent: &str) -> AgentAnswer {
        let agent = Agent {
            provider: provider.to_owned(),
            name: agent.to_owned(),
        };
        let path = agent.path(&self.root);
        let stamp = stamp(&path);
        let known = lock().get(&path).cloned();
        let known = known.filter(|(then, _)| *then == stamp);
        let Some(until) = self.until else {
            return known.map_or(AgentAnswer::NotAsked, |(_, answer)| answer);
        };
        // What went wrong may have been mended without a change of the agent.
        if let Some((_, answer @ AgentAnswer::Form(_))) = known {
            return answer;
        }
        let answer = if Instant::now() < until {
            answer(&agent, &self.root, &self.language)
        } else {
            AgentAnswer::Broken("the agents before it took too long; try again".into())
        };
        let mut all = lock();
        if all.len() >= MAX_KNOWN {
            all.clear();
        }
        all.insert(path, (stamp, answer.clone()));
        answer
    }
}

fn lock() -> std::sync::MutexGuard<'static, BTreeMap<PathBuf, (Stamp, AgentAnswer)>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stamp(path: &Path) -> Stamp {
    path.metadata().map_or((0, 0, 0, 0), |data| {
        (data.mtime(), data.mtime_nsec(), data.ino(), data.size())
    })
}

fn answer(agent: &Agent, root: &Path, language: &str) -> AgentAnswer {
    match form(agent, root, language) {
        Ok(form) => AgentAnswer::Form(Arc::new(form)),
        Err(NoForm {
            installed,
            why,
            advice,
        }) if installed => AgentAnswer::Broken(format!("{why}; {advice}")),
        Err(NoForm { advice, .. }) => AgentAnswer::Missing(advice),
    }
}

/// Why an agent has no form, and what to do.
#[derive(Debug)]
pub struct NoForm {
    pub installed: bool,
    pub why: String,
    pub advice: String,
}

/// Runs an agent and reads what it says of itself, in `language` if it knows it. Blocks for up to 10 s.
///
/// # Errors
/// It is not on this node, or says nothing that can be used.
pub fn form(agent: &Agent, root: &Path, language: &str) -> Result<AgentForm, NoForm> {
    let printed = agent.meta_data(root, MAX_META_DATA);
    let printed = printed.map_err(|error| NoForm {
        installed: agent.path(root).exists(),
        why: error.to_string(),
        advice: error.advice(),
    })?;
    AgentForm::read(&printed, language).map_err(|error| NoForm {
        installed: true,
        why: format!("{agent}: {error}"),
        advice: format!(
            "run `OCF_ROOT={} {} meta-data` to see what it prints; reinstall or mend the agent",
            root.display(),
            agent.path(root).display()
        ),
    })
}

/// The language of whoever runs this, as in `zh`; English if none is set.
#[must_use]
pub fn language() -> String {
    let set = ["LC_ALL", "LC_MESSAGES", "LANG"];
    let set = set.iter().find_map(|name| {
        let value = std::env::var(name).ok()?;
        (!value.is_empty()).then_some(value)
    });
    let word: String = set
        .unwrap_or_default()
        .chars()
        .take_while(char::is_ascii_lowercase)
        .collect();
    if word.len() == 2 { word } else { "en".into() }
}

/// Asks every agent that a configuration text names, so that they are known. Blocks.
pub(crate) fn ask_all_of(text: &str) {
    // What is wrong with the text is found again by whoever reads it next.
    let _ = hotpair_config::check_with("", text, None, &Installed::asking());
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotpair_host::ocf::list;

    /// Debian's `resource-agents` has 141; other providers may be installed beside them.
    #[test]
    fn every_agent_of_this_host_has_a_form() {
        let agents = list(Path::new(ROOT));
        let of_debian = agents.iter().filter(|agent| agent.provider == "heartbeat");
        if of_debian.count() == 0 {
            eprintln!("skipped: no agents are installed (scripts/setup tests)");
            return;
        }
        let mut problems = Vec::new();
        for agent in &agents {
            match form(agent, Path::new(ROOT), "en") {
                Ok(form) if form.title.is_empty() && form.description.is_empty() => {
                    problems.push(format!("{agent}: no description"));
                }
                Ok(_) => {}
                Err(no) => problems.push(format!("{agent}: {} {}", no.why, no.advice)),
            }
        }
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn the_daemons_task_takes_what_is_known_and_runs_nothing() {
        let root = tempfile::tempdir().unwrap();
        let ask = |until| {
            let installed = Installed {
                root: root.path().into(),
                language: "en".into(),
                until,
            };
            installed.ask("test", "one")
        };
        let soon = Some(Instant::now() + TOGETHER);
        assert_eq!(ask(None), AgentAnswer::NotAsked);
        assert!(matches!(ask(soon), AgentAnswer::Missing(_)));
        assert!(matches!(ask(None), AgentAnswer::Missing(_)));
        let late = Some(Instant::now());
        assert!(matches!(ask(late), AgentAnswer::Broken(_)));
    }
}
