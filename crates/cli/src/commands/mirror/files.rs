//! Which files differ between two copies of a mirror?

use super::{WORK, full};
use crate::failure::Failure;
use crate::output::plain;
use crate::session::{Session, unexpected};
use crate::words::{shown_bytes, shown_time};
use hotpair_api::files::{FileKind, FileView, FilesView, Page};
use hotpair_api::{Call, MirrorView, Reply};
use serde::Serialize;
use std::cmp::Ordering;
use std::fmt::Write;
use std::path::Path;

/// Differing files that are printed; JSON has them all.
const SHOWN: usize = 50;
/// Pages of a list, far more than the daemon gives.
const PAGES: usize = 4096;

/// One node's files, or why they are not known.
#[derive(Debug, Serialize)]
pub struct Side {
    node: String,
    /// In words: what was looked at.
    source: Option<String>,
    count: usize,
    cut: Option<String>,
    unreadable: u64,
    problem: Option<String>,
    #[serde(skip)]
    entries: Vec<FileView>,
}

/// A file that is on one side only, or not the same on both.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    path: String,
    /// Of the first side.
    first: Option<FileView>,
    second: Option<FileView>,
}

#[derive(Debug, Serialize)]
pub struct Files {
    first: Side,
    second: Side,
    /// `None`: one of the sides is not known.
    differing: Option<Vec<Difference>>,
}

impl Files {
    /// Asks the nodes of the first two copies, both at once. `None`: there is one copy only.
    pub fn of(session: &Session, view: &MirrorView) -> Option<Self> {
        let [first, second, ..] = view.copies.as_slice() else {
            return None;
        };
        let (first, second) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| Side::of(session, view, &second.node));
            let first = Side::of(session, view, &first.node);
            (first, asked.join().ok())
        });
        let second = second?;
        let known = first.problem.is_none() && second.problem.is_none();
        let differing = known.then(|| compare(&first, &second));
        Some(Self {
            first,
            second,
            differing,
        })
    }

    pub fn text(&self) -> String {
        let mut out = String::new();
        let (first, second) = (&self.first, &self.second);
        for side in [first, second] {
            if let Some(problem) = &side.problem {
                let _ = writeln!(
                    out,
                    "files on {} are not known: {}",
                    side.node,
                    plain(problem)
                );
            }
        }
        let Some(differing) = &self.differing else {
            return out;
        };
        let _ = writeln!(
            out,
            "files that differ: {}, of {} on {} and {} on {} (by size and time of change)",
            differing.len(),
            first.count,
            first.node,
            second.count,
            second.node
        );
        for side in [first, second] {
            let source = side.source.as_deref().unwrap_or("unknown");
            let _ = writeln!(out, "  {}: seen on {}", side.node, plain(source));
            if let Some(cut) = &side.cut {
                let _ = writeln!(
                    out,
                    "  {}: not all was looked at ({}); what comes after is not compared",
                    side.node,
                    plain(cut)
                );
            }
            if let Some(newest) = self.newest(side) {
                let newest = shown_at(newest);
                let _ = writeln!(out, "  {}: newest change among them {newest}", side.node);
            }
            if side.unreadable > 0 {
                let _ = writeln!(
                    out,
                    "  {}: {} could not be read",
                    side.node, side.unreadable
                );
            }
        }
        for difference in differing.iter().take(SHOWN) {
            let _ = writeln!(out, "  {}", self.line(difference));
        }
        if let Some(more) = differing.len().checked_sub(SHOWN).filter(|&more| more > 0) {
            let _ = writeln!(out, "  and {more} more: --json lists all");
        }
        out
    }

    /// When a differing file of this side was changed last.
    fn newest(&self, side: &Side) -> Option<i64> {
        let of = |one: &Difference| {
            let first = side.node == self.first.node;
            let file = if first { &one.first } else { &one.second };
            file.as_ref().map(|file| file.modified_ns)
        };
        self.differing.iter().flatten().filter_map(of).max()
    }

    fn line(&self, difference: &Difference) -> String {
        let path = plain(&difference.path);
        let (first, second) = (&self.first.node, &self.second.node);
        match (&difference.first, &difference.second) {
            (Some(file), None) => format!("{path}  only on {first}: {}", told(file)),
            (None, Some(file)) => format!("{path}  only on {second}: {}", told(file)),
            (Some(a), Some(b)) => {
                let newer = match a.modified_ns.cmp(&b.modified_ns) {
                    Ordering::Greater => format!("; newer on {first}"),
                    Ordering::Less => format!("; newer on {second}"),
                    Ordering::Equal => String::new(),
                };
                format!(
                    "{path}  differs: {first} {}, {second} {}{newer}",
                    told(a),
                    told(b)
                )
            }
            (None, None) => path,
        }
    }
}

fn shown_at(nanoseconds: i64) -> String {
    u64::try_from(nanoseconds / 1_000_000).map_or("unknown".into(), shown_time)
}

fn told(file: &FileView) -> String {
    let at = shown_at(file.modified_ns);
    match file.kind {
        FileKind::File => format!("{} of {at}", shown_bytes(file.size)),
        FileKind::Directory => format!("directory of {at}"),
        FileKind::Link => format!("symbolic link of {at}"),
        FileKind::Other => format!("special file of {at}"),
    }
}

impl Side {
    fn of(session: &Session, view: &MirrorView, node: &str) -> Self {
        let mut side = Self {
            node: node.to_owned(),
            source: None,
            count: 0,
            cut: None,
            unreadable: 0,
            problem: None,
            entries: Vec::new(),
        };
        if let Err(failure) = side.ask(session, view) {
            side.problem = Some(failure.message);
        }
        side
    }

    fn ask(&mut self, session: &Session, view: &MirrorView) -> Result<(), Failure> {
        let mut page = None;
        for _ in 0..PAGES {
            let found = ask(session, view, &self.node, page)?;
            self.source = Some(found.source);
            self.cut = found.cut;
            self.unreadable = found.unreadable;
            self.entries.extend(found.entries);
            self.count = self.entries.len();
            page = found.next;
            if page.is_none() {
                return Ok(());
            }
        }
        Err(Failure::refused(format!(
            "the list of the files of {} has no end",
            full(view)
        )))
    }

    /// Is anything known of this path? Not behind the end of a list that was cut.
    fn knows(&self, path: &str) -> bool {
        let last = self.entries.last();
        self.cut.is_none() || last.is_some_and(|last| order(path, &last.path).is_le())
    }
}

fn ask(
    session: &Session,
    view: &MirrorView,
    node: &str,
    page: Option<Page>,
) -> Result<FilesView, Failure> {
    let call = Call::On {
        node: node.to_owned(),
        call: Box::new(Call::MirrorFiles {
            group: view.group.clone(),
            mirror: view.name.clone(),
            page,
        }),
    };
    match session.call(call, WORK)? {
        Reply::MirrorFiles(found) => Ok(found),
        other => Err(unexpected(&other)),
    }
}

/// The order of the lists: part by part.
fn order(a: &str, b: &str) -> Ordering {
    Path::new(a).cmp(Path::new(b))
}

/// What both lists tell differently, in their order.
fn compare(first: &Side, second: &Side) -> Vec<Difference> {
    let (mut a, mut b) = (
        first.entries.iter().peekable(),
        second.entries.iter().peekable(),
    );
    let mut found = Vec::new();
    loop {
        let next = match (a.peek(), b.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => order(&a.path, &b.path),
        };
        let one = a.next_if(|_| next.is_le());
        let other = b.next_if(|_| next.is_ge());
        let Some(path) = one.or(other).map(|file| file.path.clone()) else {
            return found;
        };
        let differs = match (one, other) {
            (Some(one), Some(other)) => !is_same(one, other),
            _ => true,
        };
        if differs && first.knows(&path) && second.knows(&path) {
            found.push(Difference {
                path,
                first: one.cloned(),
                second: other.cloned(),
            });
        }
    }
}

/// That of a directory only tells that something in it has changed, which is listed itself.
fn is_same(a: &FileView, b: &FileView) -> bool {
    let both = (a.kind, b.kind);
    both == (FileKind::Directory, FileKind::Directory)
        || (a.kind == b.kind && a.size == b.size && a.modified_ns == b.modified_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64, modified_ns: i64) -> FileView {
        FileView {
            path: path.into(),
            kind: FileKind::File,
            size,
            modified_ns,
        }
    }

    fn directory(path: &str, modified_ns: i64) -> FileView {
        FileView {
            kind: FileKind::Directory,
            ..file(path, 4096, modified_ns)
        }
    }

    fn side(node: &str, entries: Vec<FileView>, cut: bool) -> Side {
        Side {
            node: node.into(),
            source: Some("a test".into()),
            count: entries.len(),
            cut: cut.then(|| "it is long".into()),
            unreadable: 0,
            problem: None,
            entries,
        }
    }

    fn paths(found: &[Difference]) -> Vec<&str> {
        found.iter().map(|one| one.path.as_str()).collect()
    }

    #[test]
    fn files_of_one_side_and_changed_ones_are_found_in_order() {
        let first = side(
            "node1",
            vec![
                directory("d", 1),
                file("d/gone", 1, 1),
                file("d/same", 1, 1),
                // By its bytes it would come before what is in `d`.
                file("d.old", 1, 1),
                file("touched", 1, 1),
            ],
            false,
        );
        let second = side(
            "node2",
            vec![
                directory("d", 9),
                file("d/same", 1, 1),
                file("d.old", 2, 1),
                file("new", 1, 1),
                file("touched", 1, 2),
            ],
            false,
        );
        let found = compare(&first, &second);
        assert_eq!(paths(&found), ["d/gone", "d.old", "new", "touched"]);
        assert!(found[0].second.is_none() && found[2].first.is_none());
        let text = Files {
            first,
            second,
            differing: Some(found),
        }
        .text();
        for said in [
            "files that differ: 4, of 5 on node1 and 5 on node2",
            "d/gone  only on node1",
            "new  only on node2",
            "touched  differs",
            "newer on node2",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }

    #[test]
    fn a_kind_that_changed_is_a_difference() {
        let first = side("node1", vec![directory("a", 1)], false);
        let second = side("node2", vec![file("a", 4096, 1)], false);
        assert_eq!(paths(&compare(&first, &second)), ["a"]);
    }

    #[test]
    fn what_comes_after_the_end_of_a_cut_list_is_not_called_missing() {
        let first = side("node1", vec![file("a", 1, 1), file("m", 1, 1)], true);
        let all = ["a", "b", "m", "z"].map(|path| file(path, 1, 1)).to_vec();
        let second = side("node2", all.clone(), false);
        assert_eq!(paths(&compare(&first, &second)), ["b"]);
        assert_eq!(paths(&compare(&second, &first)), ["b"]);
        let nothing = side("node1", Vec::new(), true);
        assert!(compare(&nothing, &second).is_empty());
        let text = Files {
            differing: Some(compare(&first, &second)),
            first,
            second,
        }
        .text();
        assert!(text.contains("not all was looked at"), "{text}");
    }

    #[test]
    fn a_side_that_is_not_known_is_told_and_nothing_compared() {
        let mut first = side("node1", Vec::new(), false);
        first.problem = Some("node1 cannot be reached now".into());
        let files = Files {
            first,
            second: side("node2", vec![file("a", 1, 1)], false),
            differing: None,
        };
        assert_eq!(
            files.text(),
            "files on node1 are not known: node1 cannot be reached now\n"
        );
    }
}
