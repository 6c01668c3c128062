//! Nodes of constants alone: computed while the file is read.

use super::constant::{Constant, Data, sizes};
use super::import::Importer;
use super::lower::{Outcome, axis, float, int, ints, places, reshaped, squeezed};
use super::schema::{Attribute, Node};
use std::rc::Rc;

/// The operators that are computed of constants and of which activations have none, or whose attributes then say something
/// else.
pub(super) const FOLDED: [&str; 26] = [
    "Abs",
    "And",
    "Cast",
    "Ceil",
    "Constant",
    "ConstantOfShape",
    "Equal",
    "Exp",
    "Floor",
    "Greater",
    "Less",
    "Max",
    "Min",
    "Mod",
    "Neg",
    "Not",
    "Or",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Size",
    "Sqrt",
    "Where",
];

impl<'a> Importer<'a, '_> {
    /// A node of constants alone.
    pub(super) fn fold(&mut self, node: &'a Node<'a>) -> Outcome<Rc<Constant>> {
        if let "Identity" | "Dropout" = node.op {
            return self.required(node, 0);
        }
        self.folded(node).map(Rc::new)
    }

    fn folded(&mut self, node: &'a Node<'a>) -> Outcome<Constant> {
        let data = |importer: &mut Self| importer.required(node, 0);
        match node.op {
            "Constant" => self.stated(node),
            "ConstantOfShape" => {
                let dims = sizes(&data(self)?.to_ints()?)?;
                let value = match node.attribute("value") {
                    Some(Attribute::Tensor(tensor)) => Constant::decode(tensor, None)?,
                    _ => Constant { dims: vec![1], data: Data::Floats(vec![0.0]) },
                };
                Constant::filled(dims, &value)
            }
            "Cast" => {
                let x = self.owned(node, 0)?;
                let dims = x.dims.clone();
                let data = match (int(node, "to", 1)?, x.data) {
                    (6 | 7, Data::Ints(values)) => Data::Ints(values),
                    (6 | 7, Data::Floats(values)) => Data::Ints(values.iter().map(|&x| x as i64).collect()),
                    (1 | 10 | 11 | 16, Data::Floats(values)) => Data::Floats(values),
                    (1 | 10 | 11 | 16, Data::Ints(values)) => {
                        Data::Floats(values.iter().map(|&x| x as f32).collect())
                    }
                    (other, _) => return Err(format!("the attribute to is {other}")),
                };
                Ok(Constant { dims, data })
            }
            "Shape" => {
                let dims = data(self)?.dims.iter().map(|&side| side as i64).collect();
                Ok(Constant::ints(dims))
            }
            "Gather" => {
                let (x, indices) = (data(self)?, self.required(node, 1)?);
                let at = axis(int(node, "axis", 0)?, x.dims.len())?;
                if indices.dims.len() > 1 {
                    return Err(format!("entries in {:?}", indices.dims));
                }
                x.gathered(at, &places(&indices.to_ints()?, x.dims[at])?, indices.dims.is_empty())
            }
            "Slice" => {
                let mut x = data(self)?;
                for (at, places) in self.slices(node, &x.dims)? {
                    x = Rc::new(x.gathered(at, &places, false)?);
                }
                Ok(Rc::unwrap_or_clone(x))
            }
            "Squeeze" | "Unsqueeze" => {
                let x = self.owned(node, 0)?;
                let axes = self.axes(node)?;
                let dims = squeezed(node.op, &x.dims, axes.as_deref())?;
                x.reshaped(dims)
            }
            "Reshape" => {
                let (x, wanted) = (self.owned(node, 0)?, self.required(node, 1)?.to_ints()?);
                let dims = reshaped(&x.dims, &wanted, int(node, "allowzero", 0)? == 1)?;
                x.reshaped(dims)
            }
            "Transpose" => {
                let x = data(self)?;
                let rank = x.dims.len();
                let perm = match ints(node, "perm")? {
                    Some(perm) => perm.iter().map(|&at| axis(at, rank)).collect::<Outcome<Vec<_>>>()?,
                    None => (0..rank).rev().collect(),
                };
                x.transposed(&perm)
            }
            "Concat" => {
                let mut parts = Vec::new();
                for at in 0..node.inputs.len() {
                    parts.push(self.required(node, at)?);
                }
                let rank = parts.first().map_or(0, |part| part.dims.len());
                Constant::concatenated(&parts, axis(int(node, "axis", 0)?, rank)?)
            }
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" | "Mod" | "Equal" | "Greater" | "Less"
            | "And" | "Or" => {
                let mut sum = data(self)?;
                for at in 1..node.inputs.len() {
                    self.work(sum.cost())?;
                    sum = Rc::new(Constant::combined(node.op, &sum, &*self.required(node, at)?)?);
                }
                Ok(Rc::unwrap_or_clone(sum))
            }
            "Clip" => {
                let mut x = data(self)?;
                for (op, attribute, at) in [("Max", "min", 1), ("Min", "max", 2)] {
                    let bound = match node.attribute(attribute) {
                        Some(_) => {
                            let data = Data::Floats(vec![float(node, attribute, 0.0)?]);
                            Some(Rc::new(Constant { dims: Vec::new(), data }))
                        }
                        None => self.optional(node, at)?,
                    };
                    if let Some(bound) = bound {
                        x = Rc::new(Constant::combined(op, &x, &bound)?);
                    }
                }
                Ok(Rc::unwrap_or_clone(x))
            }
            "Neg" | "Abs" | "Sqrt" | "Exp" | "Reciprocal" | "Floor" | "Ceil" | "Not" => {
                data(self)?.each(node.op)
            }
            "ReduceMean" | "ReduceSum" | "ReduceProd" | "ReduceMin" | "ReduceMax" => {
                let x = data(self)?;
                let rank = x.dims.len();
                let axes = match self.axes(node)? {
                    Some(axes) => axes.iter().map(|&at| axis(at, rank)).collect::<Outcome<Vec<_>>>()?,
                    None if int(node, "noop_with_empty_axes", 0)? == 1 => return Ok(Rc::unwrap_or_clone(x)),
                    None => (0..rank).collect(),
                };
                x.reduced(node.op, &axes, int(node, "keepdims", 1)? == 1)
            }
            "Expand" => {
                let (x, dims) = (data(self)?, sizes(&self.required(node, 1)?.to_ints()?)?);
                // Sides of 1 are as the other's: what a sum with zeros does.
                Constant::combined("Add", &x, &Constant::filled(dims, &x.zero())?)
            }
            "Where" => {
                let (holds, x, y) = (data(self)?, self.required(node, 1)?, self.required(node, 2)?);
                Constant::chosen(&holds, &x, &y)
            }
            "Range" => {
                let number = |importer: &mut Self, at: usize| match importer.required(node, at)?.to_ints()?[..]
                {
                    [number] => Ok(number),
                    _ => Err("bounds that are not numbers".to_owned()),
                };
                Constant::range(number(self, 0)?, number(self, 1)?, number(self, 2)?)
            }
            "Size" => Ok(Constant { dims: Vec::new(), data: Data::Ints(vec![data(self)?.len() as i64]) }),
            "BatchNormalization" => {
                let (x, eps) = (self.owned(node, 0)?, float(node, "epsilon", 1e-5)?);
                let mut parameters = Vec::new();
                for at in 1..5 {
                    parameters.push(Rc::unwrap_or_clone(self.required(node, at)?).into_floats());
                }
                let own = int(node, "training_mode", 0)? == 1;
                x.normalised(&parameters, eps, own)
            }
            _ => Err("of constants alone, which is not read".into()),
        }
    }

    fn stated(&mut self, node: &'a Node<'a>) -> Outcome<Constant> {
        match node.attributes.first() {
            Some((_, Attribute::Tensor(tensor))) => self.decode(tensor),
            Some((_, Attribute::Float(value))) => {
                Ok(Constant { dims: Vec::new(), data: Data::Floats(vec![*value]) })
            }
            Some((_, Attribute::Int(value))) => {
                Ok(Constant { dims: Vec::new(), data: Data::Ints(vec![*value]) })
            }
            Some((_, Attribute::Floats(values))) => {
                Ok(Constant { dims: vec![values.len()], data: Data::Floats(values.clone()) })
            }
            Some((_, Attribute::Ints(values))) => Ok(Constant::ints(values.clone())),
            _ => Err("no numbers that are read".into()),
        }
    }
}
