//! Tensors that are known before the network runs: initialisers, constants, and what follows from them.

use super::schema::{MOST_DIMS, Tensor};
use super::walk::{Walk, steps};
use std::borrow::Cow;
use std::rc::Rc;

/// Most numbers of a constant.
const MOST_NUMBERS: usize = 1 << 29;

/// Most numbers of a constant that is computed and not stored.
const MOST_FOLDED: usize = 1 << 20;

/// The same where two constants together make more numbers than either has. Failing at the last of them is charged as much.
pub(super) const MOST_SPREAD: usize = 1 << 16;

/// Most entries that are none, for a side is 0.
const MOST_EMPTY: usize = 1 << 12;

/// Why a tensor or node cannot be taken; the importer says of which one.
pub(super) type Problem = String;

/// Numbers of a constant.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Floats(Vec<f32>),
    Ints(Vec<i64>),
}

/// A tensor with known numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    pub(super) dims: Vec<usize>,
    pub(super) data: Data,
}

/// The product of dimensions, if it is sensible: the other sides too where one is 0.
pub(super) fn count(dims: &[usize]) -> Result<usize, Problem> {
    let empty = dims.contains(&0);
    let most = if empty { MOST_EMPTY } else { MOST_NUMBERS };
    dims.iter()
        .try_fold(1usize, |total, &side| total.checked_mul(side.max(1)))
        .filter(|&total| total <= most)
        .map(|total| if empty { 0 } else { total })
        .ok_or_else(|| format!("dimensions {dims:?}, more than {most} numbers"))
}

/// Complains of more dimensions than tensors have.
pub(super) fn few(dims: usize) -> Result<(), Problem> {
    if dims > MOST_DIMS { Err(format!("{dims} dimensions; {MOST_DIMS} are read")) } else { Ok(()) }
}

/// Dimensions as they stand in a file.
pub(super) fn sizes(dims: &[i64]) -> Result<Vec<usize>, Problem> {
    few(dims.len())?;
    dims.iter().map(|&side| usize::try_from(side).map_err(|_| format!("dimensions {dims:?}"))).collect()
}

impl Constant {
    pub(super) fn ints(values: Vec<i64>) -> Self {
        Constant { dims: vec![values.len()], data: Data::Ints(values) }
    }

    /// Bytes of a number of ONNX type `kind` in raw form.
    pub(super) fn width(kind: i64) -> Result<usize, Problem> {
        match kind {
            1 | 6 => Ok(4),
            7 | 11 => Ok(8),
            10 | 16 => Ok(2),
            9 => Ok(1),
            other => Err(format!("numbers of ONNX type {other}; floats, int32 and int64 are read")),
        }
    }

    /// The numbers of `tensor`, which are `external` if they are in a file of their own.
    pub(super) fn decode(tensor: &Tensor<'_>, external: Option<&[u8]>) -> Result<Self, Problem> {
        let dims = sizes(&tensor.dims)?;
        let len = count(&dims)?;
        let raw = external.or(tensor.raw);
        let width = Self::width(tensor.data_type)?;
        let bits = || -> Result<Option<&[u8]>, Problem> {
            match raw {
                Some(raw) if Some(raw.len()) == len.checked_mul(width) => Ok(Some(raw)),
                Some(raw) => Err(format!("{} bytes of numbers instead of {len} times {width}", raw.len())),
                None => Ok(None),
            }
        };
        let whole = |found: usize| {
            if found == len { Ok(()) } else { Err(format!("{found} numbers instead of {len}")) }
        };
        let halves = |convert: fn(u16) -> f32| -> Result<Data, Problem> {
            if let Some(raw) = bits()? {
                let pairs = raw.chunks_exact(2).map(|x| convert(u16::from_le_bytes([x[0], x[1]])));
                return Ok(Data::Floats(pairs.collect()));
            }
            whole(tensor.ints.len())?;
            Ok(Data::Floats(tensor.ints.iter().map(|&bits| convert(bits as u16)).collect()))
        };
        let whole_numbers = |convert: fn(&[u8]) -> i64| -> Result<Data, Problem> {
            if let Some(raw) = bits()? {
                return Ok(Data::Ints(raw.chunks_exact(width).map(convert).collect()));
            }
            whole(tensor.ints.len())?;
            Ok(Data::Ints(tensor.ints.clone()))
        };
        let data = match tensor.data_type {
            1 => match bits()? {
                Some(raw) => Data::Floats(
                    raw.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect(),
                ),
                None => {
                    whole(tensor.floats.len())?;
                    Data::Floats(tensor.floats.clone())
                }
            },
            11 => match bits()? {
                Some(raw) => Data::Floats(
                    raw.chunks_exact(8)
                        .map(|x| f64::from_le_bytes([x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]]) as f32)
                        .collect(),
                ),
                None => {
                    whole(tensor.floats.len())?;
                    Data::Floats(tensor.floats.clone())
                }
            },
            10 => halves(crate::formats::state_dict::half_to_f32)?,
            16 => halves(|bits| f32::from_bits(u32::from(bits) << 16))?,
            6 => whole_numbers(|x| i64::from(i32::from_le_bytes([x[0], x[1], x[2], x[3]])))?,
            7 => whole_numbers(|x| i64::from_le_bytes([x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]]))?,
            _ => whole_numbers(|x| i64::from(x[0]))?,
        };
        Ok(Constant { dims, data })
    }

    pub(super) fn len(&self) -> usize {
        match &self.data {
            Data::Floats(values) => values.len(),
            Data::Ints(values) => values.len(),
        }
    }

    /// Bytes that its numbers take.
    pub(super) fn bytes(&self) -> usize {
        match &self.data {
            Data::Floats(values) => 4 * values.len(),
            Data::Ints(values) => 8 * values.len(),
        }
    }

    /// What it costs to look at it: its numbers, each found by its dimensions.
    pub(super) fn cost(&self) -> usize {
        self.len() * (self.dims.len() + 1)
    }

    /// As whole numbers.
    pub(super) fn to_ints(&self) -> Result<Vec<i64>, Problem> {
        match &self.data {
            Data::Ints(values) => Ok(values.clone()),
            Data::Floats(values) => match values.iter().find(|x| x.fract() != 0.0 || x.abs() > 1e9) {
                None => Ok(values.iter().map(|&x| x as i64).collect()),
                Some(x) => Err(format!("{x} where whole numbers belong")),
            },
        }
    }

    /// As floats.
    pub(super) fn floats(&self) -> Cow<'_, [f32]> {
        match &self.data {
            Data::Floats(values) => Cow::Borrowed(values),
            Data::Ints(values) => Cow::Owned(values.iter().map(|&x| x as f32).collect()),
        }
    }

    /// The same, of a constant that nobody else needs.
    pub(super) fn into_floats(self) -> Vec<f32> {
        match self.data {
            Data::Floats(values) => values,
            Data::Ints(values) => values.into_iter().map(|x| x as f32).collect(),
        }
    }

    /// The only number.
    pub(super) fn scalar(&self) -> Result<f32, Problem> {
        match self.floats()[..] {
            [value] => Ok(value),
            _ => Err(format!("{} numbers where one belongs", self.len())),
        }
    }

    /// The same numbers in other dimensions.
    pub(super) fn reshaped(mut self, dims: Vec<usize>) -> Result<Self, Problem> {
        if count(&dims)? != self.len() {
            return Err(format!("{:?} as {dims:?}", self.dims));
        }
        self.dims = dims;
        Ok(self)
    }

    /// With dimensions in the order `perm`.
    pub(super) fn transposed(&self, perm: &[usize]) -> Result<Self, Problem> {
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        if sorted != (0..self.dims.len()).collect::<Vec<_>>() {
            return Err(format!("the order {perm:?} of {} dimensions", self.dims.len()));
        }
        let dims: Vec<usize> = perm.iter().map(|&axis| self.dims[axis]).collect();
        let steps = steps(&self.dims);
        let walk = Walk::new(dims.iter().zip(perm).map(|(&side, &axis)| (side, [steps[axis]])));
        let data = match &self.data {
            Data::Floats(values) => Data::Floats(taken(values, &walk)),
            Data::Ints(values) => Data::Ints(taken(values, &walk)),
        };
        Ok(Constant { dims, data })
    }

    /// The entries `indices` along `axis`.
    pub(super) fn gathered(&self, axis: usize, indices: &[usize], scalar: bool) -> Result<Self, Problem> {
        let side = *self.dims.get(axis).ok_or_else(|| format!("axis {axis} of {:?}", self.dims))?;
        if let Some(&outside) = indices.iter().find(|&&index| index >= side) {
            return Err(format!("entry {outside} of {side}"));
        }
        let inner: usize = self.dims[axis + 1..].iter().product();
        let outer: usize = self.dims[..axis].iter().product();
        let total = count(&[outer, indices.len(), inner])?;
        if total > MOST_FOLDED.max(self.len()) {
            return Err(format!("{total} numbers gathered"));
        }
        let mut dims = self.dims.clone();
        if scalar {
            dims.remove(axis);
        } else {
            dims[axis] = indices.len();
        }
        let data = match &self.data {
            Data::Floats(values) => Data::Floats(entries(values, outer, side, inner, indices)),
            Data::Ints(values) => Data::Ints(entries(values, outer, side, inner, indices)),
        };
        Ok(Constant { dims, data })
    }

    /// Constants one after the other along `axis`.
    pub(super) fn concatenated(parts: &[Rc<Constant>], axis: usize) -> Result<Self, Problem> {
        let [first, ..] = parts else { return Err("nothing to concatenate".into()) };
        let mut dims = first.dims.clone();
        if axis >= dims.len() {
            return Err(format!("axis {axis} of {dims:?}"));
        }
        dims[axis] = 0;
        for part in parts {
            let fits = part.dims.len() == dims.len()
                && (0..dims.len()).all(|other| other == axis || part.dims[other] == dims[other]);
            if !fits {
                return Err(format!("{:?} beside {:?}", part.dims, first.dims));
            }
            dims[axis] += part.dims[axis];
        }
        if count(&dims)? > 4 * MOST_FOLDED {
            return Err(format!("{dims:?} numbers concatenated"));
        }
        let outer: usize = dims[..axis].iter().product();
        let whole = parts.iter().all(|part| matches!(part.data, Data::Ints(_)));
        let run = |part: &Rc<Constant>| part.len() / outer.max(1);
        let data = if whole {
            let mut values = Vec::new();
            for block in 0..outer {
                for part in parts {
                    if let Data::Ints(ints) = &part.data {
                        values.extend_from_slice(&ints[block * run(part)..][..run(part)]);
                    }
                }
            }
            Data::Ints(values)
        } else {
            let floats: Vec<Cow<'_, [f32]>> = parts.iter().map(|part| part.floats()).collect();
            let mut values = Vec::new();
            for block in 0..outer {
                for (part, floats) in parts.iter().zip(&floats) {
                    values.extend_from_slice(&floats[block * run(part)..][..run(part)]);
                }
            }
            Data::Floats(values)
        };
        Ok(Constant { dims, data })
    }

    /// Filled with one number.
    pub(super) fn filled(dims: Vec<usize>, value: &Constant) -> Result<Self, Problem> {
        let total = count(&dims)?;
        if total > MOST_FOLDED {
            return Err(format!("{dims:?} filled with one number"));
        }
        let data = match &value.data {
            Data::Ints(ints) if ints.len() == 1 => Data::Ints(vec![ints[0]; total]),
            _ => Data::Floats(vec![value.scalar()?; total]),
        };
        Ok(Constant { dims, data })
    }

    /// `op` of two constants, of which one may be broadcast.
    pub(super) fn combined(op: &str, a: &Constant, b: &Constant) -> Result<Self, Problem> {
        let rank = a.dims.len().max(b.dims.len());
        let side =
            |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
        let mut dims = Vec::with_capacity(rank);
        for axis in 0..rank {
            let (x, y) = (side(&a.dims, axis), side(&b.dims, axis));
            if x != y && x != 1 && y != 1 {
                return Err(format!("{:?} and {:?} together", a.dims, b.dims));
            }
            dims.push(if x == 1 { y } else { x });
        }
        let total = count(&dims)?;
        if total > MOST_SPREAD.max(a.len()).max(b.len()) {
            return Err(format!("{dims:?} numbers"));
        }
        let along = |of: &Constant| -> Vec<usize> {
            let own = steps(&of.dims);
            let missing = rank - of.dims.len();
            let step = |axis: usize| if of.dims[axis] == 1 { 0 } else { own[axis] };
            (0..rank).map(|axis| axis.checked_sub(missing).map_or(0, step)).collect()
        };
        let (over_a, over_b) = (along(a), along(b));
        let walk = Walk::new((0..rank).map(|axis| (dims[axis], [over_a[axis], over_b[axis]])));
        let truth = |holds: bool| i64::from(holds);
        let data = match (&a.data, &b.data) {
            (Data::Ints(x), Data::Ints(y)) => {
                let apply: fn(i64, i64) -> Option<i64> = match op {
                    "Add" => i64::checked_add,
                    "Sub" => i64::checked_sub,
                    "Mul" => i64::checked_mul,
                    "Pow" => |x, y| u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
                    "Min" => |x, y| Some(x.min(y)),
                    "Max" => |x, y| Some(x.max(y)),
                    // As Python has it: with the divisor's sign.
                    "Mod" => |x, y| {
                        let rest = x.checked_rem(y)?;
                        Some(if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest })
                    },
                    "Equal" => |x, y| Some(i64::from(x == y)),
                    "Greater" => |x, y| Some(i64::from(x > y)),
                    "Less" => |x, y| Some(i64::from(x < y)),
                    "And" => |x, y| Some(i64::from(x != 0 && y != 0)),
                    "Or" => |x, y| Some(i64::from(x != 0 || y != 0)),
                    _ => i64::checked_div,
                };
                let mut failed = None;
                let values = zipped(&walk, total, x, y, |x, y| {
                    apply(x, y).unwrap_or_else(|| {
                        failed.get_or_insert((x, y));
                        0
                    })
                });
                if let Some((x, y)) = failed {
                    return Err(format!("{x} and {y}, whose {op} is no 64-bit number"));
                }
                Data::Ints(values)
            }
            _ => {
                let (x, y) = (&*a.floats(), &*b.floats());
                match (op, y) {
                    ("Add", _) => Data::Floats(zipped(&walk, total, x, y, |x, y| x + y)),
                    ("Sub", _) => Data::Floats(zipped(&walk, total, x, y, |x, y| x - y)),
                    ("Mul", _) => Data::Floats(zipped(&walk, total, x, y, |x, y| x * y)),
                    ("Div", _) => Data::Floats(zipped(&walk, total, x, y, |x, y| x / y)),
                    // As onnxruntime computes it.
                    ("Pow", [2.0]) => Data::Floats(zipped(&walk, total, x, y, |x, _| x * x)),
                    ("Pow", [3.0]) => Data::Floats(zipped(&walk, total, x, y, |x, _| x * x * x)),
                    ("Pow", _) => Data::Floats(zipped(&walk, total, x, y, f32::powf)),
                    ("Min", _) => Data::Floats(zipped(&walk, total, x, y, f32::min)),
                    ("Max", _) => Data::Floats(zipped(&walk, total, x, y, f32::max)),
                    ("Equal", _) => Data::Ints(zipped(&walk, total, x, y, |x, y| truth(x == y))),
                    ("Greater", _) => Data::Ints(zipped(&walk, total, x, y, |x, y| truth(x > y))),
                    ("Less", _) => Data::Ints(zipped(&walk, total, x, y, |x, y| truth(x < y))),
                    _ => return Err(format!("{op} of floats")),
                }
            }
        };
        Ok(Constant { dims, data })
    }

    /// A single 0 of the same kind.
    pub(super) fn zero(&self) -> Self {
        let data = match &self.data {
            Data::Ints(_) => Data::Ints(vec![0]),
            Data::Floats(_) => Data::Floats(vec![0.0]),
        };
        Constant { dims: Vec::new(), data }
    }

    /// `op` of each number.
    pub(super) fn each(&self, op: &str) -> Result<Self, Problem> {
        let data = match (&self.data, op) {
            (Data::Ints(values), "Not") => Data::Ints(values.iter().map(|&x| i64::from(x == 0)).collect()),
            (Data::Ints(values), "Neg") => Data::Ints(values.iter().map(|&x| x.saturating_neg()).collect()),
            (Data::Ints(values), "Abs") => Data::Ints(values.iter().map(|&x| x.saturating_abs()).collect()),
            (Data::Ints(_), _) | (_, "Not") => return Err(format!("{op} of numbers of another kind")),
            (Data::Floats(values), _) => {
                fn of(values: &[f32], value: impl Fn(f32) -> f32) -> Vec<f32> {
                    values.iter().map(|&x| value(x)).collect()
                }
                Data::Floats(match op {
                    "Neg" => of(values, |x| -x),
                    "Abs" => of(values, f32::abs),
                    "Sqrt" => of(values, f32::sqrt),
                    "Exp" => of(values, f32::exp),
                    "Floor" => of(values, f32::floor),
                    "Ceil" => of(values, f32::ceil),
                    _ => of(values, |x| 1.0 / x),
                })
            }
        };
        Ok(Constant { dims: self.dims.clone(), data })
    }

    /// The mean, sum, product, least or largest over `axes`, summed in f64.
    pub(super) fn reduced(&self, op: &str, axes: &[usize], keeps: bool) -> Result<Self, Problem> {
        let is_gone = |axis: usize| axes.contains(&axis);
        let rank = self.dims.len();
        let kept: Vec<usize> =
            (0..rank).map(|axis| if is_gone(axis) { 1 } else { self.dims[axis] }).collect();
        let len = count(&kept)?;
        if self.len() == 0 {
            return Err(format!("{op} of no numbers"));
        }
        let start: f64 = match op {
            "ReduceProd" => 1.0,
            "ReduceMin" => f64::INFINITY,
            "ReduceMax" => f64::NEG_INFINITY,
            _ => 0.0,
        };
        let mut values = vec![start; len];
        let (from, to) = (steps(&self.dims), steps(&kept));
        let walk = Walk::new(
            (0..rank).map(|axis| (self.dims[axis], [from[axis], if is_gone(axis) { 0 } else { to[axis] }])),
        );
        match &self.data {
            Data::Floats(numbers) => gathered_into(&mut values, &walk, numbers, f64::from, op),
            Data::Ints(numbers) => gathered_into(&mut values, &walk, numbers, |x| x as f64, op),
        }
        if op == "ReduceMean" {
            let each = (self.len() / len.max(1)) as f64;
            values.iter_mut().for_each(|value| *value /= each);
        }
        let exact = |value: &f64| value.fract() == 0.0 && value.abs() < 2f64.powi(53);
        let data = match &self.data {
            Data::Floats(_) => Data::Floats(values.iter().map(|&x| x as f32).collect()),
            Data::Ints(_) if values.iter().all(exact) => {
                Data::Ints(values.iter().map(|&x| x as i64).collect())
            }
            Data::Ints(_) => return Err(format!("{op} of whole numbers that is none")),
        };
        let dims = if keeps {
            kept
        } else {
            (0..rank).filter(|&axis| !is_gone(axis)).map(|axis| kept[axis]).collect()
        };
        Ok(Constant { dims, data })
    }

    /// Of `x` where `holds` is not 0, else of `y`.
    pub(super) fn chosen(holds: &Constant, x: &Constant, y: &Constant) -> Result<Self, Problem> {
        let zero = Constant { dims: Vec::new(), data: Data::Ints(vec![0]) };
        let holds = Constant { dims: holds.dims.clone(), data: Data::Ints(holds.to_ints()?) };
        let shape =
            Constant::combined("Add", &holds, &Constant::combined("And", &x.truths(), &y.truths())?)?.dims;
        let spread = |of: &Constant| {
            let zeros = Constant::filled(shape.clone(), &of.zero())?;
            Constant::combined("Add", of, &zeros)
        };
        let (holds, x, y) = (spread(&Constant::combined("Add", &holds, &zero)?)?, spread(x)?, spread(y)?);
        let holds = holds.to_ints()?;
        let pick = |at: usize| holds[at] != 0;
        let data = match (&x.data, &y.data) {
            (Data::Ints(x), Data::Ints(y)) => {
                Data::Ints((0..x.len()).map(|at| if pick(at) { x[at] } else { y[at] }).collect())
            }
            _ => {
                let (x, y) = (x.floats(), y.floats());
                Data::Floats((0..x.len()).map(|at| if pick(at) { x[at] } else { y[at] }).collect())
            }
        };
        Ok(Constant { dims: shape, data })
    }

    /// 1 where a number is not 0.
    fn truths(&self) -> Self {
        let data = self.floats().iter().map(|&x| i64::from(x != 0.0)).collect();
        Constant { dims: self.dims.clone(), data: Data::Ints(data) }
    }

    /// Whole numbers from `start` to before `end`.
    pub(super) fn range(start: i64, end: i64, step: i64) -> Result<Self, Problem> {
        let span = i128::from(end) - i128::from(start);
        let step_size = i128::from(step);
        if step == 0 {
            return Err("a step of 0".into());
        }
        let len = (span + step_size - step_size.signum()) / step_size;
        if len > MOST_FOLDED as i128 {
            return Err(format!("a range of {len} numbers"));
        }
        // Between start and end, so it is a 64-bit number.
        let values = (0..len.max(0)).map(|at| (i128::from(start) + at * step_size) as i64);
        Ok(Constant::ints(values.collect()))
    }

    /// Batch normalisation over the second dimension by `[gamma, beta, mean, variance]`, or by the numbers' `own` mean and
    /// variance.
    pub(super) fn normalised(self, parameters: &[Vec<f32>], eps: f32, own: bool) -> Result<Self, Problem> {
        let &[images, channels, ..] = self.dims.as_slice() else {
            return Err(format!("batch normalisation of {:?}", self.dims));
        };
        let unlike = || format!("batch normalisation of {channels} channels by other numbers of parameters");
        let [gamma, beta, means, variances] = parameters else { return Err(unlike()) };
        if parameters.iter().any(|numbers| numbers.len() != channels) {
            return Err(unlike());
        }
        let dims = self.dims.clone();
        let mut values = self.into_floats();
        let pixels = values.len() / (images * channels).max(1);
        let affine = gamma.iter().zip(beta);
        let statistics = means.iter().zip(variances);
        for (channel, ((&gamma, &beta), (&mean, &variance))) in affine.zip(statistics).enumerate() {
            let starts = (0..images).map(|image| (image * channels + channel) * pixels);
            let (mut mean, mut variance) = (f64::from(mean), f64::from(variance));
            if own {
                let count = (images * pixels).max(1) as f64;
                let numbers = || starts.clone().flat_map(|start| &values[start..start + pixels]);
                mean = numbers().map(|&x| f64::from(x)).sum::<f64>() / count;
                variance = numbers().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
            }
            let scale = f64::from(gamma) / (variance + f64::from(eps)).sqrt();
            for start in starts {
                for x in &mut values[start..start + pixels] {
                    *x = ((f64::from(*x) - mean) * scale + f64::from(beta)) as f32;
                }
            }
        }
        Ok(Constant { dims, data: Data::Floats(values) })
    }
}

/// The numbers in the order of `walk`.
fn taken<T: Copy>(values: &[T], walk: &Walk<1>) -> Vec<T> {
    let mut taken = Vec::with_capacity(values.len());
    walk.runs(|[start], len, [step]| match step {
        1 => taken.extend_from_slice(&values[start..start + len]),
        step => taken.extend((0..len).map(|at| values[start + at * step])),
    });
    taken
}

/// The entries `indices` of `side`, in each of `outer` blocks, `inner` numbers each.
fn entries<T: Copy>(values: &[T], outer: usize, side: usize, inner: usize, indices: &[usize]) -> Vec<T> {
    let mut taken = Vec::with_capacity(outer * indices.len() * inner);
    for block in 0..outer {
        for &index in indices {
            taken.extend_from_slice(&values[(block * side + index) * inner..][..inner]);
        }
    }
    taken
}

/// `of` each two numbers along `walk`, `total` in all.
fn zipped<T: Copy, U>(
    walk: &Walk<2>,
    total: usize,
    x: &[T],
    y: &[T],
    mut of: impl FnMut(T, T) -> U,
) -> Vec<U> {
    let mut values = Vec::with_capacity(total);
    walk.runs(|[a, b], len, steps| match steps {
        [1, 1] => values.extend(x[a..a + len].iter().zip(&y[b..b + len]).map(|(&x, &y)| of(x, y))),
        [1, 0] => {
            let y = y[b];
            values.extend(x[a..a + len].iter().map(|&x| of(x, y)));
        }
        [0, 1] => {
            let x = x[a];
            values.extend(y[b..b + len].iter().map(|&y| of(x, y)));
        }
        [s, t] => values.extend((0..len).map(|at| of(x[a + s * at], y[b + t * at]))),
    });
    values
}

/// Reduces `numbers` by `op` into `values` along `walk`, in order.
fn gathered_into<T: Copy>(
    values: &mut [f64],
    walk: &Walk<2>,
    numbers: &[T],
    number: impl Fn(T) -> f64,
    op: &str,
) {
    match op {
        "ReduceProd" => accumulated(values, walk, numbers, number, |value, next| value * next),
        "ReduceMin" => accumulated(values, walk, numbers, number, f64::min),
        "ReduceMax" => accumulated(values, walk, numbers, number, f64::max),
        _ => accumulated(values, walk, numbers, number, |value, next| value + next),
    }
}

fn accumulated<T: Copy>(
    values: &mut [f64],
    walk: &Walk<2>,
    numbers: &[T],
    number: impl Fn(T) -> f64,
    with: impl Fn(f64, f64) -> f64,
) {
    walk.runs(|[from, to], len, steps| match steps {
        [1, 0] => {
            let run = &numbers[from..from + len];
            values[to] = run.iter().fold(values[to], |value, &next| with(value, number(next)));
        }
        [1, 1] => {
            let run = values[to..to + len].iter_mut().zip(&numbers[from..from + len]);
            run.for_each(|(value, &next)| *value = with(*value, number(next)));
        }
        [s, t] => (0..len).for_each(|at| {
            let value = &mut values[to + t * at];
            *value = with(*value, number(numbers[from + s * at]));
        }),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(dims: &[usize], values: &[f32]) -> Constant {
        Constant { dims: dims.to_vec(), data: Data::Floats(values.to_vec()) }
    }

    #[test]
    fn moving_numbers_about() {
        let x = floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(x.transposed(&[1, 0]), Ok(floats(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])));
        assert!(x.transposed(&[0, 0]).is_err() && x.transposed(&[0]).is_err());
        assert_eq!(x.gathered(1, &[2, 0], false), Ok(floats(&[2, 2], &[3.0, 1.0, 6.0, 4.0])));
        assert_eq!(x.gathered(0, &[1], true), Ok(floats(&[3], &[4.0, 5.0, 6.0])));
        assert!(x.gathered(0, &[2], false).is_err() && x.gathered(2, &[0], false).is_err());
        let part = Rc::new(x.clone());
        let twice = Constant::concatenated(&[Rc::clone(&part), part], 1).expect("fits");
        assert_eq!(twice, floats(&[2, 6], &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 4.0, 5.0, 6.0]));
        let sum = Constant::combined("Sub", &x, &floats(&[2, 1], &[1.0, 10.0])).expect("fits");
        assert_eq!(sum, floats(&[2, 3], &[0.0, 1.0, 2.0, -6.0, -5.0, -4.0]));
    }

    /// Where each number of a tensor of `dims` is in one of `own`, which repeats along its sides of 1: by arithmetic for every
    /// number, as a check of what runs along them.
    fn spread(dims: &[usize], own: &[usize]) -> Vec<usize> {
        let missing = dims.len() - own.len();
        let place = |at: usize| {
            let (mut rest, mut place, mut step) = (at, 0, 1);
            for axis in (0..dims.len()).rev() {
                let side = axis.checked_sub(missing).map_or(1, |axis| own[axis]);
                place += if side == 1 { 0 } else { rest % dims[axis] * step };
                step *= side;
                rest /= dims[axis];
            }
            place
        };
        (0..dims.iter().product()).map(place).collect()
    }

    fn numbered(dims: &[usize]) -> Constant {
        let len = dims.iter().product::<usize>();
        floats(dims, &(0..len).map(|at| (at * 7 % 11) as f32 - 4.5).collect::<Vec<f32>>())
    }

    #[test]
    fn runs_give_what_arithmetic_for_every_number_gives() {
        let mut rng = crate::rng::Rng::new(5);
        for _ in 0..400 {
            let rank = 1 + rng.below(4);
            let dims: Vec<usize> = (0..rank).map(|_| 1 + rng.below(4)).collect();
            // Two tensors that together make `dims`: some sides 1, some left out in front.
            let mut part = || {
                let sides: Vec<usize> =
                    dims.iter().map(|&side| if rng.below(3) == 0 { 1 } else { side }).collect();
                sides[rng.below(rank)..].to_vec()
            };
            let (a, b) = (numbered(&part()), numbered(&part()));
            let found = Constant::combined("Sub", &a, &b).expect("fits");
            let (x, y) = (a.floats(), b.floats());
            let expected: Vec<f32> = spread(&found.dims, &a.dims)
                .into_iter()
                .zip(spread(&found.dims, &b.dims))
                .map(|(at, other)| x[at] - y[other])
                .collect();
            assert_eq!(found.data, Data::Floats(expected), "{:?} and {:?}", a.dims, b.dims);

            let whole = numbered(&dims);
            let axes: Vec<usize> = (0..rank).filter(|_| rng.below(2) == 0).collect();
            let kept: Vec<usize> =
                (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { dims[axis] }).collect();
            let mut sums = vec![0f64; kept.iter().product()];
            for (at, place) in spread(&dims, &kept).into_iter().enumerate() {
                sums[place] += f64::from(whole.floats()[at]);
            }
            let sums: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
            let found = whole.reduced("ReduceSum", &axes, true).expect("fits");
            assert_eq!(found, floats(&kept, &sums), "{dims:?} over {axes:?}");

            let mut perm: Vec<usize> = (0..rank).collect();
            for at in (1..rank).rev() {
                perm.swap(at, rng.below(at + 1));
            }
            let found = whole.transposed(&perm).expect("a permutation");
            let mut back = vec![0; rank];
            perm.iter().enumerate().for_each(|(to, &from)| back[from] = to);
            assert_eq!(found.transposed(&back), Ok(whole.clone()), "{perm:?}");
            let steps = steps(&dims);
            let place = |at: usize| {
                let (mut rest, mut place) = (at, 0);
                for axis in (0..rank).rev() {
                    place += rest % found.dims[axis] * steps[perm[axis]];
                    rest /= found.dims[axis];
                }
                place
            };
            let expected: Vec<f32> = (0..whole.len()).map(|at| whole.floats()[place(at)]).collect();
            assert_eq!(found.data, Data::Floats(expected), "{perm:?} of {dims:?}");
        }
    }

    #[test]
    fn weights_are_standardised() {
        let x = floats(&[2, 2, 2], &[1.0, 3.0, 5.0, 7.0, 0.0, 0.0, 2.0, 6.0]);
        let mean = x.reduced("ReduceMean", &[1, 2], true).expect("fits");
        assert_eq!(mean, floats(&[2, 1, 1], &[4.0, 2.0]));
        let centred = Constant::combined("Sub", &x, &mean).expect("fits");
        let squares = Constant::combined("Mul", &centred, &centred).expect("fits");
        let variance = squares.reduced("ReduceMean", &[1, 2], false).expect("fits");
        assert_eq!(variance, floats(&[2], &[5.0, 6.0]));
        let parameters = [vec![2.0, 1.0], vec![0.5, 0.0], vec![9.0; 2], vec![9.0; 2]];
        let by_own =
            floats(&[1, 2, 4], &[1.0, 3.0, 5.0, 7.0, 0.0, 0.0, 2.0, 6.0]).normalised(&parameters, 0.0, true);
        let root = 5f32.sqrt();
        let expected = [-3.0, -1.0, 1.0, 3.0].map(|x| 2.0 * x / root + 0.5);
        let Data::Floats(found) = by_own.expect("fits").data else { panic!("floats") };
        assert!(expected.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        let given = floats(&[1, 2, 1], &[9.0, 12.0]).normalised(&parameters, 0.0, false).expect("fits");
        assert_eq!(given, floats(&[1, 2, 1], &[0.5, 1.0]));
    }

    #[test]
    fn whole_numbers_are_computed_with() {
        let x = Constant::ints(vec![-7, 4]);
        let of = |op: &str, y: i64| Constant::combined(op, &x, &Constant::ints(vec![y])).map(|c| c.to_ints());
        assert_eq!(of("Mod", 3), Ok(Ok(vec![2, 1])));
        assert_eq!(of("Greater", 0), Ok(Ok(vec![0, 1])));
        assert!(of("Mod", 0).is_err() && of("Pow", 64).is_err() && of("Pow", -1).is_err());
        let chosen = Constant::chosen(&Constant::ints(vec![0, 1]), &x, &Constant::ints(vec![9]));
        assert_eq!(chosen, Ok(Constant::ints(vec![9, 4])));
        assert_eq!(Constant::range(1, 8, 3), Ok(Constant::ints(vec![1, 4, 7])));
        assert_eq!(Constant::range(3, 0, -1), Ok(Constant::ints(vec![3, 2, 1])));
        assert_eq!(Constant::range(3, 3, 1), Ok(Constant::ints(vec![])));
        assert!(Constant::range(i64::MIN, i64::MAX, 1).is_err() && Constant::range(0, 1, 0).is_err());
        assert_eq!(x.reduced("ReduceProd", &[0], false).map(|c| c.to_ints()), Ok(Ok(vec![-28])));
        assert!(Constant::ints(vec![1, 2]).reduced("ReduceMean", &[0], true).is_err());
    }

    #[test]
    fn sizes_that_overflow_are_problems() {
        assert!(count(&[1 << 40, 1 << 40]).is_err());
        assert_eq!(count(&[0]), Ok(0));
        assert!(count(&[0, 1 << 40, 1 << 40]).is_err() && count(&[1 << 20, 0]).is_err());
        assert!(sizes(&[1; 17]).is_err());
        assert!(sizes(&[3, -1]).is_err());
        assert!(Constant::filled(vec![1 << 25], &Constant::ints(vec![1])).is_err());
        let large = Constant::ints(vec![i64::MAX]);
        assert!(Constant::combined("Add", &large, &large).is_err());
        assert!(Constant::combined("Div", &large, &Constant::ints(vec![0])).is_err());
        let tensor =
            Tensor { dims: vec![1 << 20, 1 << 8], data_type: 1, raw: Some(&[0; 8]), ..Tensor::default() };
        assert!(Constant::decode(&tensor, None).is_err());
    }
}
