//! What goes up: nothing of an operation before its verdict, nothing that was denied.

use std::collections::HashMap;

use portcullis::protocol::Stage;
use portcullis::protocol::postgres::codec::{self, Fields};

/// How the names and texts that stand for denied ones begin.
pub(crate) const DECOY: &[u8] = b"portcullis_denied_";

/// The verdicts so far, and what went up for them.
#[derive(Default)]
pub(crate) struct Watch {
    /// How often each text may still go up as it is.
    queries: HashMap<String, usize>,
    parses: HashMap<String, usize>,
    executes: usize,
    decoys: usize,
}

impl Watch {
    /// A verdict has been given.
    pub(crate) fn judged(&mut self, stage: Stage, text: &str, may: bool) {
        if !may {
            self.decoys += 1;
            return;
        }
        match stage {
            Stage::Query => *self.queries.entry(text.into()).or_default() += 1,
            Stage::Prepare => *self.parses.entry(text.into()).or_default() += 1,
            Stage::Execute => self.executes += 1,
        }
    }

    /// Bytes that went up: whole messages, each with its verdict.
    pub(crate) fn look(&mut self, mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let frame = codec::whole(bytes, usize::MAX).ok().flatten();
            let frame = frame.expect("half a message went up");
            let (message, behind) = bytes.split_at(frame.len);
            self.one(frame.tag, message);
            frames.push((frame.tag, message.to_vec()));
            bytes = behind;
        }
        frames
    }

    fn one(&mut self, tag: u8, message: &[u8]) {
        let mut fields = Fields::of_frame(message);
        let (text, left) = match tag {
            b'Q' => (fields.bytes().expect("a text"), &mut self.queries),
            b'P' => {
                fields.bytes().expect("a name");
                (fields.bytes().expect("a text"), &mut self.parses)
            }
            b'E' => {
                let decoy = fields.bytes().expect("a name").starts_with(DECOY);
                let left = if decoy {
                    &mut self.decoys
                } else {
                    &mut self.executes
                };
                *left = left.checked_sub(1).expect("an Execute without a verdict");
                return;
            }
            b'F' => {
                let oid = Fields::of_frame(message).int32().unwrap_or_default();
                let text = format!("FunctionCall {oid}");
                take(&mut self.queries, &text);
                return;
            }
            _ => return,
        };
        if text.starts_with(DECOY) {
            self.decoys = self.decoys.checked_sub(1).expect("a decoy too many");
            return;
        }
        take(left, &String::from_utf8_lossy(text));
    }
}

fn take(left: &mut HashMap<String, usize>, text: &str) {
    let count = left.get_mut(text).filter(|count| **count > 0);
    *count.unwrap_or_else(|| panic!("`{text}` went up without a verdict")) -= 1;
}
