//! What a network's input and output mean, as one text entry that files of other formats carry: how images are normalised,
//! and which class each output is for.

use super::Provenance;
use crate::data::Normalization;
use crate::from_json;
use crate::json::{FromJson, Read};
use crate::shape::Shape;
use serde::Serialize;
use serde_json::Value;

/// The key of the entry: among ONNX's `metadata_props`, and in the metadata of safetensors.
pub const KEY: &str = "centripetal.description";

/// What a file says of a network's input and output.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Description {
    /// Shape of an image, where it is stated.
    pub input: Option<Shape>,
    /// What images are normalised with, when known.
    pub normalization: Option<Normalization>,
    /// Class names in the order of the outputs; empty when unknown.
    pub classes: Vec<String>,
    /// The data set that the network was trained on, for people.
    pub data: String,
}

/// The entry as it is written.
#[derive(Serialize)]
struct Entry<'a> {
    input: Input<'a>,
    output: Output<'a>,
    data: &'a str,
    usage: String,
}

#[derive(Serialize)]
struct Input<'a> {
    layout: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<&'static str>,
    shape: [usize; 3],
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<[f32; 2]>,
    #[serde(flatten)]
    normalization: Option<&'a Normalization>,
}

#[derive(Serialize)]
struct Output<'a> {
    classes: &'a [String],
}

/// The entry as it is read: of what is written, the parts that are not for people alone.
struct Stated {
    input: StatedInput,
    output: StatedOutput,
    data: String,
}

struct StatedInput {
    shape: Vec<usize>,
    mean: Vec<f32>,
    std: Vec<f32>,
}

struct StatedOutput {
    classes: Vec<String>,
}

from_json!(Stated { input, output = StatedOutput { classes: Vec::new() }, data = String::new() });
from_json!(StatedInput { shape = Vec::new(), mean = Vec::new(), std = Vec::new() });
from_json!(StatedOutput { classes = Vec::new() });

impl Description {
    /// What is known of a checkpoint's network over images of `input`.
    pub fn of(provenance: &Provenance, input: Shape) -> Self {
        Description {
            input: Some(input),
            normalization: provenance.normalization.clone(),
            classes: provenance.classes.clone(),
            data: provenance.data.clone(),
        }
    }

    /// The entry's text, for a network over images of `input` with `outputs` logits. Same description, same text.
    pub fn to_text(&self, input: Shape, outputs: usize) -> String {
        let entry = Entry {
            input: Input {
                layout: "NCHW",
                channels: channels(input),
                shape: [input.c, input.h, input.w],
                range: self.normalization.is_some().then_some([0.0, 1.0]),
                normalization: self.normalization.as_ref(),
            },
            output: Output { classes: &self.classes },
            data: &self.data,
            usage: self.usage(input, outputs),
        };
        // Plain data of finite numbers: there is nothing to fail.
        serde_json::to_string(&entry).unwrap_or_default()
    }

    /// Reads the entry's text.
    ///
    /// # Errors
    /// A text that says where something else was expected.
    pub fn from_text(text: &str) -> Read<Self> {
        /// More channels or pixels along a side than any image has.
        const LARGEST: usize = 65_535;
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Stated { input: StatedInput { shape, mean, std }, output, data } = Stated::from_json(&value)?;
        let input = match shape[..] {
            [] => None,
            [c, h, w] if shape.iter().all(|side| (1..=LARGEST).contains(side)) => Some(Shape::new(c, h, w)),
            _ => {
                return Err(format!(
                    "input: shape: expected three sizes from 1 to {LARGEST}, found {shape:?}"
                ));
            }
        };
        let fits = mean.len() == std.len()
            && input.is_none_or(|input| mean.is_empty() || mean.len() == input.c)
            && mean.iter().all(|x| x.is_finite())
            && std.iter().all(|x| x.is_finite() && *x > 0.0);
        if !fits {
            return Err(format!(
                "input: expected one mean and one positive deviation for each channel, found {mean:?} and {std:?}"
            ));
        }
        let normalization = (!mean.is_empty()).then_some(Normalization { mean, std });
        Ok(Description { input, normalization, classes: output.classes, data })
    }

    /// What whoever runs the network elsewhere must feed, and what comes out.
    pub fn usage(&self, input: Shape, outputs: usize) -> String {
        let Shape { c, h, w } = input;
        let channels = channels(input).map_or(String::new(), |channels| format!(", {channels}"));
        let numbers = match &self.normalization {
            Some(normalization) => normalised(normalization),
            None => "normalised as in training, which is not known here".to_owned(),
        };
        let order = match self.classes.as_slice() {
            [] => String::new(),
            [first, .., last] => format!(" in the order {first:?} to {last:?}"),
            [only] => format!(", the first for {only:?}"),
        };
        format!(
            "input: float32 [batch, {c}, {h}, {w}]{channels}, {numbers}. Output: one logit for each of {outputs} classes{order}; \
             a softmax turns logits into probabilities"
        )
    }
}

/// The order of the channels; pictures have one or three.
fn channels(input: Shape) -> Option<&'static str> {
    match input.c {
        1 => Some("gray"),
        3 => Some("RGB"),
        _ => None,
    }
}

/// What becomes of a pixel.
pub fn normalised(Normalization { mean, std }: &Normalization) -> String {
    let is_all = |numbers: &[f32], value: f32| numbers.iter().all(|&x| x == value);
    if is_all(mean, 0.0) && is_all(std, 1.0 / 255.0) {
        return "pixels as they are, 0 to 255".to_owned();
    }
    if is_all(mean, 0.0) && is_all(std, 1.0) {
        return "pixels divided by 255, 0 to 1".to_owned();
    }
    format!("(pixel / 255 - mean) / deviation with mean {mean:?} and deviation {std:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Description {
        Description {
            input: Some(Shape::new(3, 8, 9)),
            normalization: Some(Normalization {
                mean: vec![0.485, 0.5, 0.25],
                std: vec![0.1, 0.2, 1.0 / 255.0],
            }),
            classes: ["Äpfel", "\"b\"\n", ""].map(str::to_owned).to_vec(),
            data: "folder@8:x".to_owned(),
        }
    }

    #[test]
    fn what_is_written_is_read_to_the_last_bit() {
        let input = Shape::new(3, 8, 9);
        for description in [whole(), Description { input: Some(input), ..Description::default() }] {
            let text = description.to_text(input, 3);
            assert_eq!(Description::from_text(&text), Ok(description), "{text}");
        }
        let text = whole().to_text(input, 3);
        assert!(
            text.contains("\"mean\":[0.485,0.5,0.25]") && text.contains("\"channels\":\"RGB\""),
            "{text}"
        );
        assert!(text.contains("float32 [batch, 3, 8, 9], RGB, (pixel / 255 - mean)"), "{text}");
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_place() {
        for (text, told) in [
            ("", "EOF"),
            ("[]", "expected an object"),
            ("{}", "input: missing"),
            (r#"{"input":{"shape":[3,2]}}"#, "input: shape"),
            (r#"{"input":{"shape":[1,28,18446744073709551615]}}"#, "input: shape"),
            (r#"{"input":{"shape":[1,0,28]}}"#, "input: shape"),
            (r#"{"input":{"mean":[0.5],"std":[]}}"#, "one mean and one positive deviation"),
            (r#"{"input":{"mean":[0.5],"std":[0.0]}}"#, "one mean and one positive deviation"),
            (
                r#"{"input":{"shape":[3,2,2],"mean":[0.5],"std":[0.1]}}"#,
                "one mean and one positive deviation",
            ),
            (r#"{"input":{},"output":{"classes":[1]}}"#, "output: classes"),
        ] {
            let error = Description::from_text(text).expect_err(text);
            assert!(error.contains(told), "{error}");
        }
        assert_eq!(Description::from_text(r#"{"input":{},"more":[]}"#), Ok(Description::default()));
    }

    #[test]
    fn plain_ranges_are_told_plainly() {
        let of = |std: f32| normalised(&Normalization { mean: vec![0.0], std: vec![std] });
        assert_eq!(of(1.0 / 255.0), "pixels as they are, 0 to 255");
        assert_eq!(of(1.0), "pixels divided by 255, 0 to 1");
        assert!(of(0.5).contains("deviation [0.5]"));
    }
}
