//! Every WGSL file against the Rust tables, the WebGPU baseline, and the languages that drivers take.

use crate::rules::{files, read, root};
use centripetal::device::{Access, Kernel, MAX_BINDINGS, Shader};
use centripetal::ops::KERNELS;
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, Expression, Module, ShaderStage, StorageAccess, TypeInner, back};
use std::collections::BTreeMap;

/// Most invocations of a workgroup in the WebGPU baseline.
const MAX_INVOCATIONS: u32 = 256;

/// Most bytes of workgroup memory in the WebGPU baseline.
const MAX_WORKGROUP_BYTES: u32 = 16 * 1024;

/// Every shader with its kernel and its module, valid without any capability beyond the baseline, but for subgroups in
/// variants of that name.
fn each(mut check: impl FnMut(&Kernel, &Shader, &Module, &ModuleInfo)) {
    for kernel in KERNELS {
        for shader in kernel.shaders {
            let module = naga::front::wgsl::parse_str(shader.wgsl).unwrap_or_else(|error| {
                panic!("{}", error.emit_to_string_with_path(shader.wgsl, shader.name))
            });
            let beyond = if shader.uses_subgroups() { Capabilities::SUBGROUP } else { Capabilities::empty() };
            let mut validator = Validator::new(ValidationFlags::all(), beyond);
            validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
            let info = validator.validate(&module).unwrap_or_else(|error| {
                panic!("{}", error.emit_to_string_with_path(shader.wgsl, shader.name))
            });
            check(kernel, shader, &module, &info);
        }
    }
}

#[test]
fn every_file_belongs_to_one_shader() {
    let mut owners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kernel in KERNELS {
        assert!(
            kernel.shaders.iter().any(|shader| shader.name == kernel.name),
            "{} has no default",
            kernel.name
        );
        for shader in kernel.shaders {
            owners.entry(shader.name).or_default().push(kernel.name);
        }
    }
    for path in files(&root().join("shaders")) {
        if path.extension().is_none_or(|extension| extension != "wgsl") {
            continue;
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let kernels = owners.remove(stem.as_str()).unwrap_or_default();
        assert_eq!(kernels.len(), 1, "{stem}.wgsl belongs to {kernels:?}");
        let shader = KERNELS.iter().flat_map(|kernel| kernel.shaders).find(|shader| shader.name == stem);
        assert_eq!(
            shader.map(|shader| shader.wgsl),
            Some(read(&path).as_str()),
            "{stem}.wgsl is not what runs"
        );
    }
    assert!(owners.is_empty(), "no file in shaders/ for {owners:?}");
}

/// `name: type` of each binding of the shader, in order, as the kernel's table must spell it.
fn reflected(module: &Module) -> Vec<(u32, String)> {
    let mut bindings = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = &variable.binding else { continue };
        assert_eq!(binding.group, 0, "{:?}: bind group", variable.name);
        let space = match variable.space {
            AddressSpace::Uniform => "uniform",
            AddressSpace::Storage { access } if access == StorageAccess::LOAD => "read",
            AddressSpace::Storage { access } if access == StorageAccess::LOAD | StorageAccess::STORE => {
                "write"
            }
            other => panic!("{:?}: a binding in {other:?}", variable.name),
        };
        let is_array = matches!(
            module.types[variable.ty].inner,
            TypeInner::Array { size: naga::ArraySize::Dynamic, .. }
        );
        assert_eq!(
            is_array,
            space != "uniform",
            "{:?}: an array of any length, unless uniform",
            variable.name
        );
        bindings.push((binding.binding, format!("{space} {}", variable.name.as_deref().unwrap_or("?"))));
    }
    bindings.sort();
    bindings
}

#[test]
fn bindings_are_those_of_the_table() {
    each(|kernel, shader, module, _| {
        let storage = kernel.bindings.iter().map(|binding| {
            let access = if binding.access == Access::Read { "read" } else { "write" };
            format!("{access} {}", binding.name)
        });
        let expected: Vec<(u32, String)> =
            (0..).zip(std::iter::once("uniform params".to_owned()).chain(storage)).collect();
        assert_eq!(reflected(module), expected, "{}", shader.name);
        assert!(kernel.bindings.len() <= MAX_BINDINGS, "{}: {} buffers", shader.name, kernel.bindings.len());
        let is_write = |binding: &&centripetal::device::Binding| binding.access == Access::Write;
        let inputs = kernel.bindings.iter().take_while(|binding| !is_write(binding)).count();
        assert!(
            kernel.bindings.iter().skip(inputs).all(|b| is_write(&b)),
            "{}: inputs come first",
            shader.name
        );
    });
}

#[test]
fn uniforms_are_the_same_in_both_languages() {
    each(|kernel, shader, module, _| {
        let uniform = module.global_variables.iter().find(|(_, v)| v.space == AddressSpace::Uniform);
        let Some((_, uniform)) = uniform else { panic!("{} has no uniform", shader.name) };
        let ty = &module.types[uniform.ty];
        let TypeInner::Struct { members, .. } = &ty.inner else { panic!("{}: not a struct", shader.name) };
        assert_eq!(ty.name.as_deref(), Some("Params"), "{}", shader.name);
        let found: Vec<(String, &str, u32)> = members
            .iter()
            .map(|member| {
                let scalar = match module.types[member.ty].inner {
                    TypeInner::Scalar(naga::Scalar::U32) => "u32",
                    TypeInner::Scalar(naga::Scalar::I32) => "i32",
                    TypeInner::Scalar(naga::Scalar::F32) => "f32",
                    ref other => panic!("{}, {:?}: {other:?}", shader.name, member.name),
                };
                (member.name.clone().unwrap_or_default(), scalar, member.offset)
            })
            .collect();
        let fields = (0..).zip(kernel.params).map(|(i, field)| (field.name.to_owned(), field.scalar, 4 * i));
        assert_eq!(found, fields.collect::<Vec<_>>(), "{}", shader.name);
    });
}

#[test]
fn shaders_keep_to_the_baseline() {
    each(|kernel, shader, module, _| {
        let name = shader.name;
        assert_eq!(module.entry_points.len(), 1, "{name}: entry points");
        let entry = &module.entry_points[0];
        assert_eq!((entry.name.as_str(), entry.stage), ("main", ShaderStage::Compute), "{name}");
        let invocations: u32 = entry.workgroup_size.iter().product();
        assert!(invocations <= MAX_INVOCATIONS, "{name}: {invocations} invocations a workgroup");
        assert!(entry.workgroup_size_overrides.is_none(), "{name}: the workgroup size is fixed");
        let shared = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
        let bytes: u32 = shared
            .map(|(_, variable)| {
                let inner = &module.types[variable.ty].inner;
                // Safari ignores overrides there.
                let overridden = matches!(inner, TypeInner::Array { size: naga::ArraySize::Pending(_), .. });
                assert!(!overridden, "{name}: an override in an array size");
                inner.size(module.to_ctx())
            })
            .sum();
        assert!(bytes <= MAX_WORKGROUP_BYTES, "{name}: {bytes} bytes of workgroup memory");
        let directive =
            shader.wgsl.lines().find(|line| line.starts_with("enable ") || line.starts_with("requires "));
        assert_eq!(directive, None, "{name}: a directive, which a baseline device may not know");
        assert_eq!(shader.uses_subgroups(), name.ends_with("_subgroups"), "{name}");
        assert!(!kernel.shaders[0].uses_subgroups(), "{name}: the first variant runs everywhere");
        assert!(
            !shader.wgsl.contains("ptr<"),
            "{name}: a pointer, which not every compiler takes as a parameter"
        );
    });
}

/// An index known only at run time moves a local from registers to memory, which is slow on every GPU.
#[test]
fn no_local_is_indexed_at_run_time() {
    each(|_, shader, module, _| {
        let functions = module.functions.iter().map(|(_, function)| function);
        for function in functions.chain(module.entry_points.iter().map(|entry| &entry.function)) {
            let root = |mut at| loop {
                match function.expressions[at] {
                    Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => at = base,
                    ref root => break root,
                }
            };
            for (_, expression) in function.expressions.iter() {
                if let Expression::Access { base, .. } = *expression {
                    let outside = matches!(root(base), Expression::GlobalVariable(_));
                    assert!(outside, "{}: {:?} of {:?}", shader.name, expression, root(base));
                }
            }
        }
    });
}

#[test]
fn shaders_translate_for_vulkan_metal_and_direct3d() {
    each(|_, shader, module, info| {
        let name = shader.name;
        let spirv = back::spv::write_vec(module, info, &back::spv::Options::default(), None);
        let spirv = spirv.unwrap_or_else(|error| panic!("{name} to SPIR-V: {error}"));
        assert!(spirv.len() > 5, "{name}: SPIR-V of {} words, which is the header", spirv.len());

        let msl = back::msl::write_string(module, info, &Default::default(), &Default::default());
        let (msl, _) = msl.unwrap_or_else(|error| panic!("{name} to MSL: {error}"));
        assert!(msl.contains("kernel void"), "{name}: no kernel in the MSL");

        let mut hlsl = String::new();
        let (options, pipeline) = Default::default();
        let mut writer = back::hlsl::Writer::new(&mut hlsl, &options, &pipeline);
        let outcome = writer.write(module, info, None);
        outcome.unwrap_or_else(|error| panic!("{name} to HLSL: {error}"));
        assert!(hlsl.contains("[numthreads("), "{name}: no compute shader in the HLSL");
    });
}

#[test]
fn shaders_begin_with_what_they_are() {
    for kernel in KERNELS {
        for shader in kernel.shaders {
            let name = shader.name;
            let lines: Vec<&str> =
                shader.wgsl.lines().take_while(|l| l.starts_with("//")).map(|l| l[2..].trim()).collect();
            let first = lines.first().and_then(|line| line.chars().next());
            assert!(first.is_some_and(char::is_uppercase), "{name}: opens with a sentence");
            let after = |word: &str| lines.iter().find_map(|line| line.strip_prefix(word)).map(str::trim);
            for word in ["Shapes", "Grid"] {
                assert!(after(word).is_some_and(|text| text.len() > 3), "{name}: no line `{word}`");
            }
            let Some((twin, file)) = after("Twin").and_then(|twin| twin.split_once(" in ")) else {
                panic!("{name}: no line `Twin NAME in FILE`");
            };
            assert_eq!(twin, kernel.name, "{name}: its twin");
            let source = read(&root().join(file));
            assert!(source.contains(&format!("fn {twin}(args: Args<'_>)")), "{name}: no fn {twin} in {file}");
            assert!(source.contains(&format!("wgsl!(\"{name}\")")), "{name}: not used in {file}");
        }
    }
}

#[test]
fn the_reading_order_names_every_shader() {
    let readme = read(&root().join("shaders/README.md"));
    for shader in KERNELS.iter().flat_map(|kernel| kernel.shaders) {
        let link = format!("[{0}]({0}.wgsl)", shader.name);
        assert!(readme.contains(&link), "shaders/README.md does not link {}", shader.name);
    }
}
