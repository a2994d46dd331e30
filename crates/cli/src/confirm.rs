//! Dangerous commands want the name of what they concern typed.

use crate::failure::Failure;
use clap::Args;
use std::io::{BufRead, IsTerminal, Write};

#[derive(Debug, Args)]
pub struct Confirmation {
    /// The name itself, instead of typing it when asked.
    #[arg(long, value_name = "NAME")]
    pub yes_i_mean: Option<String>,
}

impl Confirmation {
    /// Goes on only if `name` was given or is typed now. `danger` says what it is about.
    pub fn require(&self, name: &str, danger: &str) -> Result<(), Failure> {
        let given = match &self.yes_i_mean {
            Some(given) => given.clone(),
            None if std::io::stdin().is_terminal() => {
                eprint!("{danger}\nType {name} to go on: ");
                std::io::stderr().flush()?;
                let mut line = String::new();
                std::io::stdin().lock().read_line(&mut line)?;
                line.trim().to_owned()
            }
            None => {
                return Err(Failure::refused(danger).hint(format!(
                    "if that is what you want, add `--yes-i-mean {name}`"
                )));
            }
        };
        if given == name {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "not confirmed: `{given}` is not `{name}`; nothing was changed"
        )))
    }
}
