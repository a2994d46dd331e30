//! `hotpair explain`: why a group is where it is.

use crate::output::{Ink, plain};
use crate::session::{Outcome, Session, unexpected};
use clap::Args;
use hotpair_api::{Call, ExplainView, Reply};

/// Say why a group is where it is, and what was decided before.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    group: String,
}

pub fn run(session: &Session, args: ExplainArgs) -> Outcome {
    match session.ask(Call::Explain { group: args.group })? {
        Reply::Explain(view) => session.show(&*view, || text(&view, session.ink)),
        other => Err(unexpected(&other)),
    }
}

fn text(view: &ExplainView, ink: Ink) -> String {
    let mut out = format!(
        "{} is {}: {}\n",
        view.group,
        ink.state(&view.state),
        plain(&view.verdict)
    );
    for relation in &view.relations {
        out.push_str(&format!("  it {}\n", plain(relation)));
    }
    out.push_str("\nnodes\n");
    out.push_str(&super::status::fits(&view.nodes, ink, "  "));
    if !view.decisions.is_empty() {
        out.push_str("\ndecisions, newest last\n");
    }
    for decision in &view.decisions {
        let from = decision.from.as_deref().unwrap_or("nobody");
        let to = decision.to.as_deref().unwrap_or("nobody");
        out.push_str(&format!(
            "  {:<8} {from} -> {to}: {}\n",
            decision.version,
            plain(&decision.reason)
        ));
    }
    out
}
