//! A kernel: one name, one table of bindings, a WGSL shader and its Rust twin.

use super::DeviceKind;
use bytemuck::Pod;

/// Most storage buffers a kernel may bind: the WebGPU baseline's 8 a stage.
pub const MAX_BINDINGS: usize = 8;

/// Most workgroups in one dimension of a dispatch (WebGPU baseline); larger grids fold into the second.
pub const MAX_WORKGROUPS: u64 = 65_535;

/// Whether a kernel reads a buffer (`var<storage, read>`) or writes it (`var<storage, read_write>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Written, and readable.
    Write,
}

/// One storage buffer of a kernel; its WGSL variable has the same name and stands at 1 + its index.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// Name of the WGSL variable.
    pub name: &'static str,
    /// Access of the WGSL variable.
    pub access: Access,
}

/// A binding that the kernel reads.
pub const fn read(name: &'static str) -> Binding {
    Binding { name, access: Access::Read }
}

/// A binding that the kernel writes.
pub const fn write(name: &'static str) -> Binding {
    Binding { name, access: Access::Write }
}

/// One field of a kernel's uniform: a 4-byte scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Name of the struct member, the same in Rust and WGSL.
    pub name: &'static str,
    /// `u32`, `i32` or `f32`, spelled alike in both languages.
    pub scalar: &'static str,
}

/// A kernel's uniform: 4-byte scalars in the order of the WGSL struct `Params`.
pub trait Params: Pod {
    /// The fields in order.
    const FIELDS: &'static [Field];
}

/// Declares a uniform struct once: the Rust type and the field table that tests compare with the WGSL.
#[macro_export]
macro_rules! params {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $scalar:ident),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        $vis struct $name { $($(#[$field_meta])* pub $field: $scalar),* }

        impl $crate::device::Params for $name {
            const FIELDS: &'static [$crate::device::Field] = &[
                $($crate::device::Field { name: stringify!($field), scalar: stringify!($scalar) }),*
            ];
        }
    };
}

/// The text of `shaders/NAME.wgsl`. In a browser's module, which a visitor waits for, without comments and indentation: they
/// are 10 kB of it, compressed.
#[cfg(not(target_arch = "wasm32"))]
macro_rules! wgsl {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl"))
    };
}
#[cfg(target_arch = "wasm32")]
macro_rules! wgsl {
    ($name:literal) => {{
        const TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl"));
        const LEN: usize = $crate::device::bare::<0>(TEXT).1;
        const BARE: [u8; LEN] = $crate::device::bare(TEXT).0;
        match std::str::from_utf8(&BARE) {
            Ok(text) => text,
            Err(_) => panic!("whole lines and words were taken out"),
        }
    }};
}

pub(crate) use wgsl;

/// The shader `text` without comments and indentation, line for line, so that a browser's messages name lines of the file;
/// and its length. The first `N` bytes of it, since what is computed while compiling has a known size.
#[cfg(any(test, target_arch = "wasm32"))]
pub(crate) const fn bare<const N: usize>(text: &str) -> ([u8; N], usize) {
    let text = text.as_bytes();
    let (mut bare, mut len) = ([0; N], 0);
    let (mut i, mut line_begins) = (0, true);
    while i < text.len() {
        let comment = text[i] == b'/' && i + 1 < text.len() && text[i + 1] == b'/';
        if comment {
            while i < text.len() && text[i] != b'\n' {
                i += 1;
            }
            continue;
        }
        let indentation = line_begins && text[i] == b' ';
        if !indentation {
            line_begins = text[i] == b'\n';
            if len < N {
                bare[len] = text[i];
            }
            len += 1;
        }
        i += 1;
    }
    (bare, len)
}

/// A WGSL implementation of a kernel. The entry point is `main`.
#[derive(Debug, Clone, Copy)]
pub struct Shader {
    /// File stem in `shaders/`, pipeline label.
    pub name: &'static str,
    /// Source text: the file, but in a browser without its comments.
    pub wgsl: &'static str,
    /// Workgroups of one dispatch, from the uniform's bytes; the executor folds them to two dimensions. 0 says that this
    /// variant is not made for such sizes.
    pub workgroups: fn(&[u8]) -> u64,
}

impl Shader {
    /// Whether this variant computes the sizes of the uniform `params`.
    pub fn fits(&self, params: &[u8]) -> bool {
        (self.workgroups)(params) > 0
    }

    /// Whether it works through workgroup memory: good on graphics cards, slow where barriers are computed by a CPU.
    pub fn uses_workgroup_memory(&self) -> bool {
        self.wgsl.contains("var<workgroup>")
    }

    /// Whether it needs subgroups, which an adapter may have ([`super::Device::can_run`]) and the baseline has not.
    pub fn uses_subgroups(&self) -> bool {
        self.wgsl.contains("@builtin(subgroup_id)")
    }
}

/// The CPU implementation of a kernel.
pub type Twin = fn(Args<'_>);

/// A GPU program with its CPU twin.
#[derive(Debug)]
pub struct Kernel {
    /// One word in four places: file stem in `shaders/`, this field, the twin, the pipeline's label.
    pub name: &'static str,
    /// Fields of the uniform at binding 0.
    pub params: &'static [Field],
    /// Storage buffers at bindings 1, 2, ...: inputs, then outputs.
    pub bindings: &'static [Binding],
    /// WGSL variants. Every size fits at least one; which runs is chosen by [`Kernel::default_variant`] or measured.
    pub shaders: &'static [Shader],
    /// Plain loops: the specification of the kernel.
    pub twin: Twin,
    /// A faster CPU path, tested against the twin.
    pub fast: Option<Twin>,
}

impl Kernel {
    /// The variants of [`Kernel::shaders`] that fit the uniform `params`.
    pub fn variants(&self, params: &[u8]) -> impl Iterator<Item = usize> + Clone {
        (0..self.shaders.len()).filter(move |&variant| self.shaders[variant].fits(params))
    }

    /// The variant to take unmeasured, one that needs nothing beyond the baseline: on a graphics card the first that works
    /// through workgroup memory, on a software adapter the first that does not; the first that fits, if there is no such.
    pub fn default_variant(&self, kind: DeviceKind, params: &[u8]) -> usize {
        let wanted = kind == DeviceKind::Gpu;
        let of_kind = |&variant: &usize| self.shaders[variant].uses_workgroup_memory() == wanted;
        let mut baseline = self.variants(params).filter(|&variant| !self.shaders[variant].uses_subgroups());
        let first = baseline.clone().next().unwrap_or(0);
        baseline.find(of_kind).unwrap_or(first)
    }
}

/// What a twin is called with: the uniform's bytes and the bound buffers.
#[derive(Debug)]
pub struct Args<'a> {
    params: &'a [u8],
    reads: [&'a [f32]; MAX_BINDINGS],
    writes: [&'a mut [f32]; MAX_BINDINGS],
}

impl<'a> Args<'a> {
    /// Arguments from buffers in binding order, inputs and outputs apart.
    pub fn new(
        params: &'a [u8],
        reads: [&'a [f32]; MAX_BINDINGS],
        writes: [&'a mut [f32]; MAX_BINDINGS],
    ) -> Self {
        Args { params, reads, writes }
    }

    /// Arguments from a uniform, the inputs and the outputs.
    pub fn of<P: Params, const W: usize>(
        params: &'a P,
        inputs: &[&'a [f32]],
        outputs: [&'a mut [f32]; W],
    ) -> Self {
        let mut reads: [&[f32]; MAX_BINDINGS] = Default::default();
        reads[..inputs.len()].copy_from_slice(inputs);
        let mut writes: [&mut [f32]; MAX_BINDINGS] = Default::default();
        for (write, output) in writes.iter_mut().zip(outputs) {
            *write = output;
        }
        Args::new(bytemuck::bytes_of(params), reads, writes)
    }

    /// The uniform, the `R` inputs and the `W` outputs.
    pub fn unpack<P: Params, const R: usize, const W: usize>(
        self,
    ) -> (P, [&'a [f32]; R], [&'a mut [f32]; W]) {
        let mut reads = self.reads.into_iter();
        let mut writes = self.writes.into_iter();
        (
            bytemuck::pod_read_unaligned(&self.params[..size_of::<P>()]),
            std::array::from_fn(|_| reads.next().unwrap_or_default()),
            std::array::from_fn(|_| writes.next().unwrap_or_default()),
        )
    }
}

/// Reads a uniform back from its bytes, for [`Shader::workgroups`].
pub fn params_of<P: Params>(bytes: &[u8]) -> P {
    bytemuck::pod_read_unaligned(&bytes[..size_of::<P>()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::KERNELS;

    fn without_comments(text: &str) -> String {
        const MOST: usize = 1 << 16;
        let (bytes, len) = bare::<MOST>(text);
        assert_eq!(len, bare::<0>(text).1);
        String::from_utf8(bytes[..len].to_vec()).expect("UTF-8")
    }

    #[test]
    fn comments_and_indentation_go_and_lines_stay() {
        let text = "// A head.\n\nfn main() {\n    let a = b / c; // why\n    // é\n}\n// the end";
        assert_eq!(without_comments(text), "\n\nfn main() {\nlet a = b / c; \n\n}\n");
    }

    #[test]
    fn nothing_but_comments_and_indentation_goes_from_any_shader() {
        for shader in KERNELS.iter().flat_map(|kernel| kernel.shaders) {
            assert!(!shader.wgsl.contains("/*"), "{}: a comment that would stay", shader.name);
            let bare = without_comments(shader.wgsl);
            let code = |line: &str| line.split("//").next().unwrap_or_default().trim().to_owned();
            let whole: Vec<String> = shader.wgsl.lines().map(code).collect();
            assert_eq!(bare.lines().map(str::trim_end).collect::<Vec<_>>(), whole, "{}", shader.name);
            assert!(bare.len() < shader.wgsl.len(), "{}", shader.name);
        }
    }
}
