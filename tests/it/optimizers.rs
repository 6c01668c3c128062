//! The update kernels: against PyTorch, against each other, and the laws of C-SGD.

use crate::golden::{GOLDEN, Golden};
use crate::harness::{compare, gpu, random, twins};
use centripetal::device::{Args, Device, Dispatch, MAX_BINDINGS};
use centripetal::optim::csgd::{CSGD_STEP, CsgdParams};
use centripetal::optim::sgd::{SGD_STEP, SgdParams};
use pollster::block_on;

const METRICS: [f32; 5] = [0.0; 5];

/// Runs four steps of an update kernel and returns parameters and momentum after each.
fn run(
    device: &Device,
    dispatch: &dyn Fn(&[centripetal::device::Buffer]) -> Dispatch,
    w: &[f32],
    gradients: &[Vec<f32>],
) -> Vec<[Vec<f32>; 2]> {
    let buffer = |data: &[f32]| {
        let buffer = device.buffer("test", data.len()).expect("memory");
        device.write(&buffer.all(), data);
        buffer
    };
    let buffers = [buffer(&gradients[0]), buffer(&METRICS), buffer(w), buffer(&vec![0.0; w.len()])];
    let list = device.record(vec![dispatch(&buffers)]).expect("records");
    let mut results = Vec::new();
    for gradient in gradients {
        device.write(&buffers[0].all(), gradient);
        device.run(&[&list]);
        results.push([2, 3].map(|i| block_on(device.read(&buffers[i].all())).expect("reads")));
    }
    results
}

fn sgd(device: &Device, params: SgdParams, w: &[f32], gradients: &[Vec<f32>]) -> Vec<[Vec<f32>; 2]> {
    let dispatch = |b: &[centripetal::device::Buffer]| Dispatch {
        kernel: &SGD_STEP,
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: b.iter().map(|buffer| buffer.all()).collect(),
        label: "test".into(),
        variant: 0,
    };
    run(device, &dispatch, w, gradients)
}

/// `clusters` as lists of rows of `row_len`.
fn csgd(
    device: &Device,
    params: CsgdParams,
    clusters: &[Vec<usize>],
    row_len: usize,
    w: &[f32],
    gradients: &[Vec<f32>],
) -> Vec<[Vec<f32>; 2]> {
    let (mut segments, mut members) = (Vec::new(), Vec::new());
    for (i, cluster) in clusters.iter().enumerate() {
        segments.extend([i * row_len, members.len(), cluster.len(), row_len].map(|x| x as u32));
        members.extend(cluster.iter().map(|row| (row * row_len) as u32));
    }
    let table = |data: &[u32]| {
        let buffer = device.buffer("test", data.len()).expect("memory");
        device.write_u32(&buffer.all(), data);
        buffer.all()
    };
    let (segments, members) = (table(&segments), table(&members));
    let params =
        CsgdParams { items: (clusters.len() * row_len) as u32, segments: clusters.len() as u32, ..params };
    let dispatch = |b: &[centripetal::device::Buffer]| Dispatch {
        kernel: &CSGD_STEP,
        params: bytemuck::bytes_of(&params).to_vec(),
        bindings: vec![b[0].all(), b[1].all(), segments.clone(), members.clone(), b[2].all(), b[3].all()],
        label: "test".into(),
        variant: 0,
    };
    run(device, &dispatch, w, gradients)
}

fn csgd_params(sgd: SgdParams, strength: f32) -> CsgdParams {
    CsgdParams {
        items: 0,
        segments: 0,
        decayed: sgd.decayed,
        nesterov: sgd.nesterov,
        lr: sgd.lr,
        momentum: sgd.momentum,
        weight_decay: sgd.weight_decay,
        strength,
    }
}

fn settings(golden: &Golden, len: usize) -> SgdParams {
    SgdParams {
        len: len as u32,
        decayed: len as u32,
        nesterov: u32::from(golden.config::<bool>("nesterov")),
        lr: golden.config("lr"),
        momentum: golden.config("momentum"),
        weight_decay: golden.config("weight_decay"),
    }
}

fn steps(golden: &Golden) -> (Vec<f32>, Vec<Vec<f32>>) {
    let gradients = (0..4).map(|t| golden.tensor(&format!("g{t}")).to_vec()).collect();
    (golden.tensor("w").to_vec(), gradients)
}

#[test]
fn sgd_equals_pytorch() {
    for golden in Golden::cases("sgd") {
        let (w, gradients) = steps(&golden);
        for device in [Some(&twins()), gpu()].into_iter().flatten() {
            let results = sgd(device, settings(&golden, w.len()), &w, &gradients);
            for (t, [parameters, _]) in results.iter().enumerate() {
                compare(&golden.name, golden.tensor(&format!("w{}", t + 1)), parameters, GOLDEN);
            }
        }
    }
}

fn clusters_of(golden: &Golden) -> Vec<Vec<usize>> {
    let labels = golden.tensor("clusters");
    let count = labels.iter().fold(0f32, |most, x| most.max(*x)) as usize + 1;
    (0..count).map(|c| (0..labels.len()).filter(|&row| labels[row] as usize == c).collect()).collect()
}

#[test]
fn csgd_equals_the_official_matrix_form() {
    for golden in Golden::cases("csgd") {
        let (w, gradients) = steps(&golden);
        let clusters = clusters_of(&golden);
        let row_len = golden.dims::<2>("w")[1];
        for device in [Some(&twins()), gpu()].into_iter().flatten() {
            let params = csgd_params(settings(&golden, w.len()), golden.config("eps"));
            let results = csgd(device, params, &clusters, row_len, &w, &gradients);
            for (t, [parameters, _]) in results.iter().enumerate() {
                compare(&golden.name, golden.tensor(&format!("w{}", t + 1)), parameters, GOLDEN);
            }
        }
    }
}

#[test]
fn clusters_of_one_are_sgd_bit_for_bit() {
    let (rows, row_len) = (7, 19);
    let len = rows * row_len;
    let w = random(1, len);
    let gradients: Vec<Vec<f32>> = (2..6).map(|seed| random(seed, len)).collect();
    let singles: Vec<Vec<usize>> = (0..rows).map(|row| vec![row]).collect();
    for nesterov in [0, 1] {
        let params =
            SgdParams { len: len as u32, decayed: 60, nesterov, lr: 0.1, momentum: 0.9, weight_decay: 1e-2 };
        for device in [Some(&twins()), gpu()].into_iter().flatten() {
            let plain = sgd(device, params, &w, &gradients);
            let centripetal = csgd(device, csgd_params(params, 0.5), &singles, row_len, &w, &gradients);
            for (step, (a, b)) in plain.iter().zip(&centripetal).enumerate() {
                let bits =
                    |state: &[Vec<f32>; 2]| state.concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(a), bits(b), "step {step} on {}", device.info().name);
            }
        }
    }
}

#[test]
fn differences_shrink_by_the_law_and_the_mean_follows_sgd() {
    let (row_len, lr, eta, eps) = (11, 0.1f32, 0.01f32, 0.5f32);
    let clusters = vec![vec![0, 2, 3], vec![1]];
    let w = random(1, 4 * row_len);
    let gradients: Vec<Vec<f32>> = (2..6).map(|seed| random(seed, w.len())).collect();
    let params = SgdParams {
        len: w.len() as u32,
        decayed: w.len() as u32,
        nesterov: 0,
        lr,
        momentum: 0.0,
        weight_decay: eta,
    };
    let results = csgd(&twins(), csgd_params(params, eps), &clusters, row_len, &w, &gradients);
    let mut before = w.clone();
    for ([after, _], gradient) in results.iter().zip(&gradients) {
        for column in 0..row_len {
            let at = |values: &[f32], row: usize| f64::from(values[row * row_len + column]);
            let shrink = 1.0 - f64::from(lr) * f64::from(eta + eps);
            for (a, b) in [(0, 2), (0, 3), (2, 3)] {
                let expected = (at(&before, a) - at(&before, b)) * shrink;
                assert!((at(after, a) - at(after, b) - expected).abs() < 1e-6);
            }
            let mean = |values: &[f32]| clusters[0].iter().map(|&row| at(values, row)).sum::<f64>() / 3.0;
            let expected = mean(&before) - f64::from(lr) * (mean(gradient) + f64::from(eta) * mean(&before));
            assert!((mean(after) - expected).abs() < 1e-6);
        }
        before.clone_from(after);
    }
}

#[test]
fn members_that_are_equal_stay_equal_to_the_bit() {
    let row_len = 13;
    let row = random(1, row_len);
    let w: Vec<f32> = [&row[..], &row, &row].concat();
    let gradients: Vec<Vec<f32>> = (2..6).map(|seed| random(seed, w.len())).collect();
    let params =
        SgdParams { len: w.len() as u32, decayed: 0, nesterov: 0, lr: 0.1, momentum: 0.9, weight_decay: 0.0 };
    for device in [Some(&twins()), gpu()].into_iter().flatten() {
        for [parameters, _] in
            csgd(device, csgd_params(params, 0.3), &[vec![0, 1, 2]], row_len, &w, &gradients)
        {
            let rows: Vec<&[f32]> = parameters.chunks(row_len).collect();
            assert!(rows[0] == rows[1] && rows[1] == rows[2]);
        }
    }
}

#[test]
fn nothing_moves_once_a_loss_was_not_finite() {
    let mut metrics = METRICS;
    metrics[3] = f32::from_bits(7);
    let params = SgdParams { len: 2, decayed: 2, nesterov: 0, lr: 0.1, momentum: 0.9, weight_decay: 0.1 };
    let (mut w, mut v) = (vec![1.0, 2.0], vec![0.5, 0.5]);
    let mut reads: [&[f32]; MAX_BINDINGS] = Default::default();
    reads[..2].copy_from_slice(&[&[3.0, 4.0], &metrics]);
    let mut writes: [&mut [f32]; MAX_BINDINGS] = Default::default();
    writes[0] = &mut w;
    writes[1] = &mut v;
    (SGD_STEP.twin)(Args::new(bytemuck::bytes_of(&params), reads, writes));
    assert_eq!((w, v), (vec![1.0, 2.0], vec![0.5, 0.5]));
}
