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

/// A WGSL implementation of a kernel. The entry point is `main`.
#[derive(Debug, Clone, Copy)]
pub struct Shader {
    /// File stem in `shaders/`, pipeline label.
    pub name: &'static str,
    /// Source text.
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
