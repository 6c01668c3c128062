//! The messages of ONNX that a network is made of, borrowed from the file's bytes (onnx.proto3, IR version 3 and later).

use super::wire::{Damage, Fields, Value};

/// Most nodes, initialisers and inputs of a file, and most inputs, outputs and attributes of a node and of all nodes
/// together: above any network, below what a hostile file could make of its bytes.
const MOST_NODES: usize = 100_000;
const MOST_PARTS: usize = 10_000;
const MOST_ATTRIBUTES: usize = 64;
const MOST_IN_ALL: usize = 1 << 18;

/// Most dimensions of a tensor, and numbers of a list among the attributes.
pub(super) const MOST_DIMS: usize = 16;
const MOST_LISTED: usize = 4096;

/// Most whole numbers that a tensor may have written one by one.
const MOST_INTS: usize = 1 << 24;

fn push<T>(list: &mut Vec<T>, item: T, most: usize) -> Result<(), Damage> {
    if list.len() >= most {
        return Err("more parts than a network has");
    }
    list.push(item);
    Ok(())
}

/// Calls `each` for every field of a message.
fn read<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(u32, Value<'a>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let mut fields = Fields::new(bytes);
    while let Some((field, value)) = fields.next()? {
        each(field, value)?;
    }
    Ok(())
}

/// `ModelProto`.
#[derive(Debug, Default)]
pub(super) struct Model<'a> {
    /// Version of the standard operators.
    pub(super) opset: i64,
    pub(super) graph: Option<Graph<'a>>,
    /// What the writer noted beside the network, as keys and values.
    pub(super) metadata: Vec<(&'a str, &'a str)>,
}

impl<'a> Model<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Damage> {
        let mut model = Model::default();
        read(bytes, |field, value| {
            match field {
                7 => model.graph = Some(Graph::parse(value.bytes()?)?),
                8 => {
                    let (mut domain, mut version) = ("", 0);
                    read(value.bytes()?, |field, value| {
                        match field {
                            1 => domain = value.text()?,
                            2 => version = value.int()?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    if is_standard(domain) {
                        model.opset = version;
                    }
                }
                14 => push(&mut model.metadata, entry(value)?, MOST_LISTED)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(model)
    }
}

/// `StringStringEntryProto`.
fn entry<'a>(value: Value<'a>) -> Result<(&'a str, &'a str), Damage> {
    let (mut key, mut text) = ("", "");
    read(value.bytes()?, |field, value| {
        match field {
            1 => key = value.text()?,
            2 => text = value.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, text))
}

/// Whether operators of this domain are those of the ONNX standard.
pub(super) fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// `GraphProto`.
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) initializers: Vec<Tensor<'a>>,
    pub(super) inputs: Vec<ValueInfo<'a>>,
    pub(super) outputs: Vec<ValueInfo<'a>>,
}

impl<'a> Graph<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Damage> {
        let mut graph = Graph::default();
        let mut parts = 0;
        read(bytes, |field, value| match field {
            1 => {
                let node = Node::parse(value.bytes()?)?;
                parts += node.inputs.len() + node.outputs.len() + node.attributes.len();
                push(&mut graph.nodes, node, if parts > MOST_IN_ALL { 0 } else { MOST_NODES })
            }
            5 => push(&mut graph.initializers, Tensor::parse(value.bytes()?)?, MOST_NODES),
            11 => push(&mut graph.inputs, ValueInfo::parse(value.bytes()?)?, MOST_NODES),
            12 => push(&mut graph.outputs, ValueInfo::parse(value.bytes()?)?, MOST_PARTS),
            _ => Ok(()),
        })?;
        Ok(graph)
    }
}

/// `NodeProto`.
#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) op: &'a str,
    pub(super) domain: &'a str,
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) attributes: Vec<(&'a str, Attribute<'a>)>,
}

impl<'a> Node<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Damage> {
        let mut node = Node::default();
        read(bytes, |field, value| {
            match field {
                1 => push(&mut node.inputs, value.text()?, MOST_PARTS)?,
                2 => push(&mut node.outputs, value.text()?, MOST_PARTS)?,
                3 => node.name = value.text()?,
                4 => node.op = value.text()?,
                5 => push(&mut node.attributes, Attribute::parse(value.bytes()?)?, MOST_ATTRIBUTES)?,
                7 => node.domain = value.text()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(node)
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// `AttributeProto`.
#[derive(Debug)]
pub(super) enum Attribute<'a> {
    Float(f32),
    Int(i64),
    Text(&'a str),
    Tensor(Tensor<'a>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    /// A graph, sparse tensors and the like.
    Other,
}

impl<'a> Attribute<'a> {
    fn parse(bytes: &'a [u8]) -> Result<(&'a str, Self), Damage> {
        let (mut name, mut kind) = ("", None);
        let (mut float, mut int, mut text, mut tensor) = (None, None, None, None);
        let (mut floats, mut ints) = (Vec::new(), Vec::new());
        read(bytes, |field, value| {
            match field {
                1 => name = value.text()?,
                2 => float = Some(value.float()?),
                3 => int = Some(value.int()?),
                // Bytes of any kind, which only matter where text is asked for.
                4 => text = std::str::from_utf8(value.bytes()?).ok(),
                5 => tensor = Some(Tensor::parse(value.bytes()?)?),
                7 => value.append_floats(&mut floats)?,
                8 => value.append_ints(&mut ints, MOST_LISTED)?,
                20 => kind = Some(value.int()?),
                _ => {}
            }
            Ok(())
        })?;
        // Writers leave out what is zero or empty, and old ones the type.
        let value = match (kind, float, int, text, tensor) {
            (Some(1), float, ..) => Attribute::Float(float.unwrap_or(0.0)),
            (Some(2), _, int, ..) => Attribute::Int(int.unwrap_or(0)),
            (Some(3), _, _, text, _) => Attribute::Text(text.unwrap_or("")),
            (Some(4) | None, _, _, _, Some(tensor)) => Attribute::Tensor(tensor),
            (Some(6), ..) => Attribute::Floats(floats),
            (Some(7), ..) => Attribute::Ints(ints),
            (None, Some(float), ..) => Attribute::Float(float),
            (None, _, Some(int), ..) => Attribute::Int(int),
            (None, _, _, Some(text), _) => Attribute::Text(text),
            (None, ..) if !ints.is_empty() => Attribute::Ints(ints),
            (None, ..) if !floats.is_empty() => Attribute::Floats(floats),
            _ => Attribute::Other,
        };
        Ok((name, value))
    }
}

/// `ValueInfoProto` of a tensor.
#[derive(Debug, Default)]
pub(super) struct ValueInfo<'a> {
    pub(super) name: &'a str,
    /// `TensorProto.DataType`; 0 when not stated.
    pub(super) data_type: i64,
    /// Dimensions, `None` where they are open; `None` altogether when not stated.
    pub(super) dims: Option<Vec<Option<i64>>>,
}

impl<'a> ValueInfo<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Damage> {
        let mut info = ValueInfo::default();
        let mut kind = None;
        read(bytes, |field, value| {
            match field {
                1 => info.name = value.text()?,
                2 => kind = Some(value.bytes()?),
                _ => {}
            }
            Ok(())
        })?;
        let field_of = |bytes: Option<&'a [u8]>, wanted: u32| -> Result<Option<&'a [u8]>, Damage> {
            let mut found = None;
            read(bytes.unwrap_or_default(), |field, value| {
                if field == wanted {
                    found = Some(value.bytes()?);
                }
                Ok(())
            })?;
            Ok(found)
        };
        let tensor = field_of(kind, 1)?;
        read(tensor.unwrap_or_default(), |field, value| {
            if field == 1 {
                info.data_type = value.int()?;
            }
            Ok(())
        })?;
        let Some(shape) = field_of(tensor, 2)? else { return Ok(info) };
        let mut dims = Vec::new();
        read(shape, |field, value| {
            if field != 1 {
                return Ok(());
            }
            let mut size = None;
            read(value.bytes()?, |field, value| {
                if field == 1 {
                    size = Some(value.int()?);
                }
                Ok(())
            })?;
            push(&mut dims, size, MOST_DIMS)
        })?;
        info.dims = Some(dims);
        Ok(info)
    }
}

/// `TensorProto`.
#[derive(Debug, Default)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) dims: Vec<i64>,
    /// `TensorProto.DataType`.
    pub(super) data_type: i64,
    pub(super) raw: Option<&'a [u8]>,
    /// `float_data`, and `double_data` rounded.
    pub(super) floats: Vec<f32>,
    /// `int32_data` or `int64_data`.
    pub(super) ints: Vec<i64>,
    /// Where the numbers are if not in this file: `location`, `offset`, `length`.
    pub(super) external: Option<Vec<(&'a str, &'a str)>>,
}

impl<'a> Tensor<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Damage> {
        let mut tensor = Tensor::default();
        let (mut entries, mut is_external) = (Vec::new(), false);
        read(bytes, |field, value| {
            match field {
                1 => value.append_ints(&mut tensor.dims, MOST_DIMS)?,
                2 => tensor.data_type = value.int()?,
                4 => value.append_floats(&mut tensor.floats)?,
                5 | 7 => value.append_ints(&mut tensor.ints, MOST_INTS)?,
                8 => tensor.name = value.text()?,
                9 => tensor.raw = Some(value.bytes()?),
                10 => value.append_doubles(&mut tensor.floats)?,
                13 => push(&mut entries, entry(value)?, MOST_DIMS)?,
                14 => is_external = value.int()? == 1,
                _ => {}
            }
            Ok(())
        })?;
        tensor.external = is_external.then_some(entries);
        Ok(tensor)
    }
}
