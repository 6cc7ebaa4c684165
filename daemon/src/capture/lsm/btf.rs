//! Where a field lies in a structure, by the kernel's own description of its types.
//!
//! Reads BTF (Documentation/bpf/btf.rst) as far as that needs: structures, unions and the
//! names that stand for them. Bytes that make no sense find nothing. aya reads BTF too, but
//! does not show the members of a type.

use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// How deep structures may lie in each other; the kernel's are far from it.
const DEEPEST: u32 = 32;

#[derive(Clone, Copy)]
struct Type {
    kind: u32,
    /// Where its members begin, and how many there are.
    members: (usize, usize),
    /// The type that it stands for, of a name or a qualifier.
    target: u32,
    /// Member offsets carry bit field sizes in their upper byte.
    has_bit_fields: bool,
}

/// The types of a kernel.
pub(super) struct Types<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// By id; 0 is `void`.
    types: Vec<Type>,
    structs: HashMap<&'a [u8], u32>,
    functions: HashMap<&'a [u8], u32>,
}

impl<'a> Types<'a> {
    /// Reads all types. None if the bytes are not BTF of this machine's byte order.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = |at| u32_at(bytes, at).and_then(|value| usize::try_from(value).ok());
        if u16::from_ne_bytes(*bytes.first_chunk()?) != MAGIC {
            return None;
        }
        let after = header(4)?;
        let (type_at, type_length) = (after.checked_add(header(8)?)?, header(12)?);
        let (string_at, string_length) = (after.checked_add(header(16)?)?, header(20)?);
        let strings = bytes.get(string_at..string_at.checked_add(string_length)?)?;
        let void = Type {
            kind: 0,
            members: (0, 0),
            target: 0,
            has_bit_fields: false,
        };
        let mut all = Self {
            bytes,
            strings,
            types: vec![void],
            structs: HashMap::new(),
            functions: HashMap::new(),
        };
        let (mut at, end) = (type_at, type_at.checked_add(type_length)?);
        while at < end {
            at = all.read(at)?;
        }
        Some(all)
    }

    /// Reads one type; where the next begins.
    fn read(&mut self, at: usize) -> Option<usize> {
        let name = u32_at(self.bytes, at)?;
        let info = u32_at(self.bytes, at + 4)?;
        let target = u32_at(self.bytes, at + 8)?;
        let kind = info >> 24 & 0x1f;
        let count = usize::try_from(info & 0xffff).ok()?;
        let members = at + 12;
        if kind == STRUCT {
            let id = u32::try_from(self.types.len()).ok()?;
            self.structs
                .entry(string(self.strings, name)?)
                .or_insert(id);
        }
        if kind == FUNC {
            self.functions.insert(string(self.strings, name)?, target);
        }
        self.types.push(Type {
            kind,
            members: (members, count),
            target,
            has_bit_fields: info >> 31 == 1,
        });
        Some(members + extra(kind, count))
    }

    /// How many arguments a function takes; none if there is no such function.
    pub(super) fn arguments(&self, function: &str) -> Option<usize> {
        let prototype = *self.functions.get(function.as_bytes())?;
        let found = self.types.get(usize::try_from(prototype).ok()?)?;
        (found.kind == FUNC_PROTO).then_some(found.members.1)
    }

    /// Byte offset of `path`, names with dots in between, in the structure `name`. Members
    /// of structures and unions without a name count as the outer one's.
    pub(super) fn offset(&self, name: &str, path: &str) -> Option<u32> {
        let mut id = *self.structs.get(name.as_bytes())?;
        let mut bits = 0_u32;
        for part in path.split('.') {
            let (at, target) = self.member(id, part.as_bytes(), DEEPEST)?;
            bits = bits.checked_add(at)?;
            id = target;
        }
        (bits.is_multiple_of(8)).then_some(bits / 8)
    }

    /// Bit offset and type of a member.
    fn member(&self, id: u32, wanted: &[u8], depth: u32) -> Option<(u32, u32)> {
        let found = self.resolve(id)?;
        let depth = depth.checked_sub(1)?;
        if found.kind != STRUCT && found.kind != UNION {
            return None;
        }
        let (start, count) = found.members;
        (0..count).find_map(|index| {
            let at = start + 12 * index;
            let name = string(self.strings, u32_at(self.bytes, at)?)?;
            let target = u32_at(self.bytes, at + 4)?;
            let mut bits = u32_at(self.bytes, at + 8)?;
            if found.has_bit_fields {
                bits &= 0x00ff_ffff;
            }
            if name == wanted {
                return Some((bits, target));
            }
            if !name.is_empty() {
                return None;
            }
            let (inner, target) = self.member(target, wanted, depth)?;
            Some((bits.checked_add(inner)?, target))
        })
    }

    /// The type behind names and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..DEEPEST {
            let found = *self.types.get(usize::try_from(id).ok()?)?;
            if !matches!(found.kind, TYPEDEF | VOLATILE | CONST | TYPE_TAG) {
                return Some(found);
            }
            id = found.target;
        }
        None
    }
}

/// Bytes behind the three words that every type has.
fn extra(kind: u32, count: usize) -> usize {
    match kind {
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
        ENUM | FUNC_PROTO => 8 * count,
        _ => 0,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

fn string(strings: &[u8], at: u32) -> Option<&[u8]> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    rest.split(|byte| *byte == 0).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `typedef struct { u32 pad; union { u32 low; u32 other; }; } inner;
    /// struct outer { u64 first; const inner in; }; void call(int first, int);`
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0pad\0low\0other\0inner\0outer\0first\0in\0call\0";
        let name = |text: &str| {
            let whole = [b"\0", text.as_bytes(), b"\0"].concat();
            let at = strings.windows(whole.len()).position(|at| at == whole);
            u32::try_from(at.expect("listed") + 1).expect("small")
        };
        let types: Vec<u32> = [
            vec![name("int"), INT << 24, 4, 32],
            vec![
                0,
                UNION << 24 | 2,
                4,
                name("low"),
                1,
                0,
                name("other"),
                1,
                0,
            ],
            vec![0, STRUCT << 24 | 2, 8, name("pad"), 1, 0, 0, 2, 32],
            vec![name("inner"), TYPEDEF << 24, 3],
            vec![0, CONST << 24, 4],
            vec![
                name("outer"),
                1 << 31 | STRUCT << 24 | 2,
                16,
                name("first"),
                1,
                64 << 24,
                name("in"),
                5,
                64,
            ],
            vec![0, FUNC_PROTO << 24 | 2, 0, name("first"), 1, 0, 1],
            vec![name("call"), FUNC << 24 | 1, 7],
        ]
        .concat();
        let length = u32::try_from(4 * types.len()).expect("small");
        let header = [
            24,
            0,
            length,
            length,
            u32::try_from(strings.len()).expect("small"),
        ];
        let mut bytes = [MAGIC.to_ne_bytes(), [1, 0]].concat();
        bytes.extend(
            header
                .iter()
                .chain(&types)
                .flat_map(|word| word.to_ne_bytes()),
        );
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_through_names_and_nameless_unions() {
        let bytes = sample();
        let types = Types::parse(&bytes).expect("BTF");
        assert_eq!(types.offset("outer", "first"), Some(0));
        assert_eq!(types.offset("outer", "in.pad"), Some(8));
        assert_eq!(types.offset("outer", "in.other"), Some(12));
        assert_eq!(types.offset("outer", "low"), None);
        assert_eq!(types.offset("outer", "first.pad"), None);
        assert_eq!(types.offset("inner", "pad"), None);
        assert_eq!(types.arguments("call"), Some(2));
        assert_eq!(types.arguments("outer"), None);
    }

    #[test]
    fn cut_bytes_find_nothing() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(Types::parse(&bytes[..length]).is_none(), "{length}");
        }
    }
}
