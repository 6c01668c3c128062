//! The self-test: passes on a device that computes rightly, and finds a shader that does not.

use centripetal::device::{Device, DeviceChoice, Kernel, Shader};
use centripetal::ops::KERNELS;
use centripetal::ops::add::{ADD_FORWARD, AddParams};
use centripetal::selftest::{self, Case, Verdict};

/// The GPU; `None` when `CENTRIPETAL_SKIP_GPU` is 1.
fn gpu() -> Option<Device> {
    if std::env::var("CENTRIPETAL_SKIP_GPU").is_ok_and(|value| value == "1") {
        println!("skipped: a GPU check, since CENTRIPETAL_SKIP_GPU=1");
        return None;
    }
    match pollster::block_on(Device::open(DeviceChoice::Gpu)) {
        Ok(device) => Some(device),
        Err(error) => panic!("{error}\nTo test without a GPU, set CENTRIPETAL_SKIP_GPU=1."),
    }
}

fn all_pass(device: &Device) -> usize {
    let checks = pollster::block_on(selftest::run(device)).unwrap_or_else(|error| panic!("{error}"));
    for check in &checks {
        assert_eq!(check.verdict, Verdict::Passed, "{check:?}");
        assert!(check.cases > 0, "{check:?}");
    }
    checks.len()
}

#[test]
fn every_shader_agrees_with_its_twin() {
    let Some(device) = gpu() else { return };
    let shaders: usize = KERNELS.iter().map(|kernel| kernel.shaders.len()).sum();
    assert_eq!(all_pass(&device), shaders);
}

/// Long dispatches and submissions are split; here nearly all are long.
#[test]
fn every_shader_agrees_with_its_twin_in_parts() {
    let Some(device) = gpu() else { return };
    device.set_longest(5_000);
    let shaders: usize = KERNELS.iter().map(|kernel| kernel.shaders.len()).sum();
    assert_eq!(all_pass(&device), shaders);
}

#[test]
fn every_fast_path_agrees_with_its_twin() {
    let fast = KERNELS.iter().filter(|kernel| kernel.fast.is_some()).count();
    assert_eq!(all_pass(&Device::cpu("test")), fast);
}

/// `add_forward` with one line changed.
macro_rules! changed {
    ($name:ident, $line:literal) => {
        static $name: Kernel = Kernel {
            name: stringify!($name),
            params: ADD_FORWARD.params,
            bindings: ADD_FORWARD.bindings,
            shaders: &[Shader {
                name: stringify!($name),
                wgsl: concat!(
                    "struct Params { len: u32 }
                    @group(0) @binding(0) var<uniform> params: Params;
                    @group(0) @binding(1) var<storage, read> a: array<f32>;
                    @group(0) @binding(2) var<storage, read> b: array<f32>;
                    @group(0) @binding(3) var<storage, read_write> y: array<f32>;
                    @compute @workgroup_size(64)
                    fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                        let i = id.x;
                        if i >= params.len { return; }",
                    $line,
                    "}"
                ),
                workgroups: |params| {
                    u64::from(centripetal::device::params_of::<AddParams>(params).len).div_ceil(64)
                },
            }],
            twin: ADD_FORWARD.twin,
            fast: None,
        };
    };
}

changed!(UNCHANGED, "y[i] = a[i] + b[i];");
changed!(SLIGHTLY_OFF, "y[i] = a[i] + b[i] * 1.001;");
changed!(LAST_LEFT_OUT, "if i + 1u < params.len { y[i] = a[i] + b[i]; }");

#[test]
fn a_wrong_shader_is_found() {
    let Some(device) = gpu() else { return };
    let cases = selftest::cases();
    let cases: Vec<&Case> = cases.iter().filter(|case| std::ptr::eq(case.kernel, &ADD_FORWARD)).collect();
    for (kernel, expected) in
        [(&UNCHANGED, Verdict::Passed), (&SLIGHTLY_OFF, Verdict::Failed), (&LAST_LEFT_OUT, Verdict::Failed)]
    {
        let check = pollster::block_on(selftest::check(&device, kernel, 0, &cases));
        let check = check.unwrap_or_else(|error| panic!("{}: {error}", kernel.name));
        assert_eq!(check.verdict, expected, "{check:?}");
    }
}
