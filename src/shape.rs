//! Shape of one image's activation. The batch dimension N belongs to the plan, not to the graph.

use crate::from_json;
use serde::Serialize;
use std::fmt;

/// Channels, height and width of one image's activation; a feature vector is `[features, 1, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Shape {
    /// Channels.
    pub c: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
}

from_json!(Shape { c, h, w });

impl Shape {
    /// A shape from C, H, W.
    pub const fn new(c: usize, h: usize, w: usize) -> Self {
        Shape { c, h, w }
    }

    /// Numbers in one image.
    pub const fn len(&self) -> usize {
        self.c * self.h * self.w
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pixels in one channel.
    pub const fn pixels(&self) -> usize {
        self.h * self.w
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.c, self.h, self.w)
    }
}
