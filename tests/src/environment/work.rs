//! # Commands: carrying Readys out
//!
//! - Changes: single nodes, the letters.

use super::{Environment, Letter, Stop, push_indented, push_line};
use crate::format;
use crate::script::Command;

/// A kind of work that a node does when it is told to.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Ready,
    AppendThread,
    ApplyThread,
}

impl Kind {
    fn heading(self) -> &'static str {
        match self {
            Self::Ready => "handling Ready",
            Self::AppendThread => "processing append thread",
            Self::ApplyThread => "processing apply thread",
        }
    }
}

impl Environment {
    pub(super) fn process_ready(
        &mut self,
        command: &Command,
        out: &mut String,
    ) -> Result<(), Stop> {
        self.process_each(command, Kind::Ready, out)
    }

    pub(super) fn process_append_thread(
        &mut self,
        command: &Command,
        out: &mut String,
    ) -> Result<(), Stop> {
        self.process_each(command, Kind::AppendThread, out)
    }

    pub(super) fn process_apply_thread(
        &mut self,
        command: &Command,
        out: &mut String,
    ) -> Result<(), Stop> {
        self.process_each(command, Kind::ApplyThread, out)
    }

    fn process_each(
        &mut self,
        command: &Command,
        kind: Kind,
        out: &mut String,
    ) -> Result<(), Stop> {
        command.only(&[])?;
        match &self.places(command)?[..] {
            [place] => self.process(*place, kind, out),
            places => places
                .iter()
                .try_for_each(|place| self.process_under_heading(*place, kind, out)),
        }
    }

    fn process_under_heading(
        &mut self,
        place: usize,
        kind: Kind,
        out: &mut String,
    ) -> Result<(), Stop> {
        self.push_heading(place, kind, out);
        let mut inner = String::new();
        let result = self.process(place, kind, &mut inner);
        push_indented(out, &inner);
        result
    }

    fn push_heading(&self, place: usize, kind: Kind, out: &mut String) {
        let id = self.nodes[place].id();
        push_line(out, format_args!("> {id} {}", kind.heading()));
    }

    fn process(&mut self, place: usize, kind: Kind, out: &mut String) -> Result<(), Stop> {
        match kind {
            Kind::Ready => self.ready(place, out),
            Kind::AppendThread => self.append(place, out),
            Kind::ApplyThread => self.apply(place, out),
        }
    }

    fn ready(&mut self, place: usize, out: &mut String) -> Result<(), Stop> {
        let node = &mut self.nodes[place];
        let result = node.raw.ready();
        let ready = result.map_err(|why| node.broken(why))?;
        out.push_str(&format::ready(
            node.id(),
            &ready,
            node.raw.config().storage_writes,
        ));
        let letters = node.process(ready)?;
        self.letters.extend(letters);
        Ok(())
    }

    fn append(&mut self, place: usize, out: &mut String) -> Result<(), Stop> {
        let node = &mut self.nodes[place];
        let Some(work) = node.append_work.pop_front() else {
            out.push_str("no append work to perform");
            return Ok(());
        };
        push_processing(out, &format::append_work(node.id(), &work));
        node.write(work.hard_state, work.entries, work.snapshot)?;
        let letters = node.outcomes(work.responses);
        self.respond(letters, out);
        Ok(())
    }

    fn apply(&mut self, place: usize, out: &mut String) -> Result<(), Stop> {
        let node = &mut self.nodes[place];
        let Some(work) = node.apply_work.pop_front() else {
            out.push_str("no apply work to perform");
            return Ok(());
        };
        push_processing(out, &format::apply_work(node.id(), &work));
        node.apply(&work.entries)?;
        let id = node.id();
        let entries = work.entries;
        let letters = work.receipt.into_iter().map(|receipt| Letter::Applied {
            node: id,
            entries: entries.clone(),
            receipt,
        });
        let letters = letters.collect();
        self.respond(letters, out);
        Ok(())
    }

    fn respond(&mut self, letters: Vec<Letter>, out: &mut String) {
        push_line(out, "Responses:");
        for letter in &letters {
            push_line(out, format::letter(letter));
        }
        self.letters.extend(letters);
    }

    /// Every Ready of these nodes, once. Whether there was any.
    pub(super) fn round_of_readys(
        &mut self,
        places: &[usize],
        out: &mut String,
    ) -> Result<bool, Stop> {
        let mut moved = false;
        for place in places {
            if self.nodes[*place].raw.has_ready() {
                self.process_under_heading(*place, Kind::Ready, out)?;
                moved = true;
            }
        }
        Ok(moved)
    }

    /// All the work of these nodes' storage threads. Whether there was any.
    pub(super) fn round_of_threads(
        &mut self,
        places: &[usize],
        out: &mut String,
    ) -> Result<bool, Stop> {
        let mut moved = false;
        for kind in [Kind::AppendThread, Kind::ApplyThread] {
            for place in places {
                if !self.has_work(*place, kind) {
                    continue;
                }
                self.push_heading(*place, kind, out);
                while self.has_work(*place, kind) {
                    let mut inner = String::new();
                    let result = self.process(*place, kind, &mut inner);
                    push_indented(out, &inner);
                    result?;
                }
                moved = true;
            }
        }
        Ok(moved)
    }

    fn has_work(&self, place: usize, kind: Kind) -> bool {
        let node = &self.nodes[place];
        match kind {
            Kind::Ready => node.raw.has_ready(),
            Kind::AppendThread => !node.append_work.is_empty(),
            Kind::ApplyThread => !node.apply_work.is_empty(),
        }
    }
}

/// Work that is refused has been printed, as in the reference.
fn push_processing(out: &mut String, line: &str) {
    push_line(out, format_args!("Processing:\n{line}"));
}
