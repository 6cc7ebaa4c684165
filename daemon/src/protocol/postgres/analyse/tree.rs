//! The parse tree as a plain tree of named nodes, made by serde from pg_query's types.
//!
//! Every node and every field of the statement is in it, whatever its type, so a walk that
//! goes down each child by default can't miss one. Absent on purpose: meaning.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Impossible, SerializeSeq, SerializeStruct, Serializer};

/// A value of the parse tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    /// An optional field that is not there.
    Absent,
    /// A node that the parser wrote as "nothing": a NULL in one of its lists, or a kind of
    /// node that it could not write down.
    Hole,
    /// A flag.
    Bool(bool),
    /// A number or the number of an enum's value.
    Int(i64),
    /// A string; empty where the parser had none.
    Text(Box<str>),
    /// A list.
    List(Vec<Tree>),
    /// A node.
    Node(Box<Node>),
}

/// A node: the Rust name of its type, and its fields in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) fields: Vec<(&'static str, Tree)>,
}

impl Tree {
    /// The tree of a value of pg_query's.
    pub(super) fn of(value: &impl Serialize) -> Result<Self, Unexpected> {
        value.serialize(Builder)
    }

    /// The items of a list; nothing for anything else.
    pub(super) fn items(&self) -> &[Tree] {
        match self {
            Tree::List(items) => items,
            _ => &[],
        }
    }

    /// The node, where it is one.
    pub(super) fn node(&self) -> Option<&Node> {
        match self {
            Tree::Node(node) => Some(node),
            _ => None,
        }
    }

    /// Whether a node of this type is anywhere in it.
    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            Tree::Node(node) => {
                node.name == name || node.fields.iter().any(|(_, child)| child.contains(name))
            }
            Tree::List(items) => items.iter().any(|item| item.contains(name)),
            _ => false,
        }
    }

    /// The text of a string constant or of a `String` node.
    pub(super) fn string(&self) -> Option<&str> {
        match self {
            Tree::Text(text) => Some(text),
            Tree::Node(node) => match node.name {
                "String" => node.field("sval")?.string(),
                "AConst" => node
                    .field("val")?
                    .node()
                    .filter(|val| val.name == "String")?
                    .field("sval")?
                    .string(),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Node {
    /// A field by its name.
    pub(super) fn field(&self, name: &str) -> Option<&Tree> {
        self.fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, tree)| tree)
    }
}

/// pg_query's types have something that this module was not written for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the parse tree has {0}")]
pub(super) struct Unexpected(String);

impl ser::Error for Unexpected {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

struct Builder;

fn no<T>(what: &str) -> Result<T, Unexpected> {
    Err(Unexpected(what.to_owned()))
}

impl Serializer for Builder {
    type Ok = Tree;
    type Error = Unexpected;
    type SerializeSeq = ListBuilder;
    type SerializeStruct = NodeBuilder;
    type SerializeTuple = Impossible<Tree, Unexpected>;
    type SerializeTupleStruct = Impossible<Tree, Unexpected>;
    type SerializeTupleVariant = Impossible<Tree, Unexpected>;
    type SerializeMap = Impossible<Tree, Unexpected>;
    type SerializeStructVariant = Impossible<Tree, Unexpected>;

    fn serialize_bool(self, value: bool) -> Result<Tree, Unexpected> {
        Ok(Tree::Bool(value))
    }
    fn serialize_i8(self, value: i8) -> Result<Tree, Unexpected> {
        Ok(Tree::Int(value.into()))
    }
    fn serialize_i16(self, value: i16) -> Result<Tree, Unexpected> {
        Ok(Tree::Int(value.into()))
    }
    fn serialize_i32(self, value: i32) -> Result<Tree, Unexpected> {
        Ok(Tree::Int(value.into()))
    }
    fn serialize_i64(self, value: i64) -> Result<Tree, Unexpected> {
        Ok(Tree::Int(value))
    }
    fn serialize_u8(self, value: u8) -> Result<Tree, Unexpected> {
        Ok(Tree::Int(value.into()))
    }
    fn serialize_u16(self, value: u16) -> Result<Tree, Unexpected> {
        Ok(Tree::Int(value.into()))
    }
    fn serialize_u32(self, value: u32) -> Result<Tree, Unexpected> {
        Ok(Tree::Int(value.into()))
    }
    fn serialize_u64(self, value: u64) -> Result<Tree, Unexpected> {
        i64::try_from(value).map_or_else(
            |_| no("a number over 63 bits"),
            |value| Ok(Tree::Int(value)),
        )
    }
    fn serialize_f32(self, _: f32) -> Result<Tree, Unexpected> {
        no("a float")
    }
    fn serialize_f64(self, _: f64) -> Result<Tree, Unexpected> {
        no("a float")
    }
    fn serialize_char(self, _: char) -> Result<Tree, Unexpected> {
        no("a character")
    }
    fn serialize_str(self, value: &str) -> Result<Tree, Unexpected> {
        Ok(Tree::Text(value.into()))
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<Tree, Unexpected> {
        no("bytes")
    }
    fn serialize_none(self) -> Result<Tree, Unexpected> {
        Ok(Tree::Absent)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Tree, Unexpected> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Tree, Unexpected> {
        no("a unit")
    }
    fn serialize_unit_struct(self, name: &'static str) -> Result<Tree, Unexpected> {
        no(name)
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Tree, Unexpected> {
        no(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: &T,
    ) -> Result<Tree, Unexpected> {
        no(name)
    }
    /// An arm of a `oneof`: the message in it has a name of its own.
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Tree, Unexpected> {
        value.serialize(self)
    }
    fn serialize_seq(self, length: Option<usize>) -> Result<ListBuilder, Unexpected> {
        Ok(ListBuilder(Vec::with_capacity(length.unwrap_or(0))))
    }
    fn serialize_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<NodeBuilder, Unexpected> {
        Ok(NodeBuilder(Node {
            name,
            fields: Vec::with_capacity(length),
        }))
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unexpected> {
        no("a tuple")
    }
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Unexpected> {
        no(name)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unexpected> {
        no(variant)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unexpected> {
        no("a map")
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unexpected> {
        no(variant)
    }
}

struct ListBuilder(Vec<Tree>);

impl SerializeSeq for ListBuilder {
    type Ok = Tree;
    type Error = Unexpected;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unexpected> {
        self.0.push(value.serialize(Builder)?);
        Ok(())
    }

    fn end(self) -> Result<Tree, Unexpected> {
        Ok(Tree::List(self.0))
    }
}

struct NodeBuilder(Node);

impl SerializeStruct for NodeBuilder {
    type Ok = Tree;
    type Error = Unexpected;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Unexpected> {
        self.0.fields.push((key, value.serialize(Builder)?));
        Ok(())
    }

    /// The wrapper `Node { node: Option<one of all> }` gives way to what is in it.
    fn end(mut self) -> Result<Tree, Unexpected> {
        if self.0.name != "Node" {
            return Ok(Tree::Node(Box::new(self.0)));
        }
        match self.0.fields.pop() {
            Some(("node", Tree::Absent)) => Ok(Tree::Hole),
            Some(("node", inner)) if self.0.fields.is_empty() => Ok(inner),
            _ => no("a Node that is not a wrapper"),
        }
    }
}
