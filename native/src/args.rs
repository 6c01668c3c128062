//! The command line: its commands, options, defaults and help.

use std::ffi::OsString;
use std::path::PathBuf;

use centripetal::data::{Augment, Dataset, Flip};
use centripetal::device::DeviceChoice;
use centripetal::models::{NAMES, Shortcut};
use centripetal::optim::{Decay, Decayed, Direction, Schedule, SgdConfig};
use centripetal::prune::criteria::Criterion;
use centripetal::prune::target::WidthsByNodes;
use centripetal::prune::width::{Ratio, Rounding};
use centripetal::prune::{Clustering, Pace};
use centripetal::{Error, ErrorKind, Result, Shape};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::data::{FORMS, form};

/// Train convolutional networks so that they can be cut without losing anything.
#[derive(Debug, Parser)]
#[command(
    name = "centripetal",
    version,
    about = "Train convolutional networks so that they can be cut without losing anything",
    long_about = "Trains convolutional networks by centripetal SGD, which pulls the filters of a cluster together \
        until they are identical, then cuts all but one of each cluster. The slim network gives the answers of the \
        wide one: no fine-tuning, no loss. Without a command, `demo` runs.",
    after_help = "A first tour:\n  \
        centripetal demo                               the whole method in about two minutes\n  \
        centripetal train lenet --data embedded        base training\n  \
        centripetal prune runs/lenet-embedded/base.safetensors --data embedded --keep 5/8\n  \
        centripetal report runs/lenet-embedded         a page with curves, filters and the certificate\n\n\
        Exit codes: 0 done, 1 failed with a message, 2 wrong usage, 130 interrupted (checkpoint written).",
    args_conflicts_with_subcommands = false
)]
pub(crate) struct Cli {
    /// What to do; `demo` if nothing is said.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Where and how to speak.
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Where to compute: auto (a hardware GPU if there is one, else the CPU), cpu, gpu or gpu:N
    #[arg(long, global = true, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Measure once which kernels are fastest on a GPU, and keep the choice and what was compiled in the cache
    /// folder; off: take the default, and leave that folder alone
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Autotune::On)]
    pub(crate) autotune: Autotune,
    /// Print one JSON document on stdout and nothing else there
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but errors, and what eval, info and devices were asked for; with --json the document too
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// Whether kernel variants are chosen by measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Autotune {
    /// Measure what is not known yet.
    On,
    /// Neither measure nor look at what was measured.
    Off,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole method on embedded data: train, cluster, C-SGD, cut, certify (about 2 minutes)
    Demo(DemoArgs),
    /// Train a network by SGD
    Train(Box<TrainArgs>),
    /// Cluster a network's filters, make them identical by C-SGD, cut, certify; or prune it by another method
    Prune(Box<PruneArgs>),
    /// Prune one network by several methods on one budget, and write a table
    Compare(Box<CompareArgs>),
    /// Measure accuracy and loss of a checkpoint
    Eval(EvalArgs),
    /// Layers, shapes, cost, memory and coupled layers of a checkpoint or zoo model
    Info(InfoArgs),
    /// Turn an ONNX file, or PyTorch weights (a state_dict in safetensors), into a checkpoint
    Import(ImportArgs),
    /// Write a checkpoint as ONNX, or its weights, for other tools
    Export(ExportArgs),
    /// List adapters, say which one is taken and test its kernels
    Devices,
    /// Make a web page of a run: curves, filters, layers, certificate
    Report(ReportArgs),
}

/// `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  centripetal demo --device cpu --out /tmp/demo")]
pub(crate) struct DemoArgs {
    /// Seed of weights, order of images and clusters
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub(crate) seed: u64,
    /// Folder for the results; one that holds another run is left alone
    #[arg(long, value_name = "DIR", default_value = "centripetal-demo")]
    pub(crate) out: PathBuf,
}

impl Default for DemoArgs {
    fn default() -> Self {
        DemoArgs { seed: 0, out: "centripetal-demo".into() }
    }
}

/// The data of a run.
#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DataArgs {
    // Wherever it lies, it is known again by its images.
    #[serde(skip)]
    #[arg(long, value_name = "DATA", value_parser = form, help = format!("The data set: {FORMS}"))]
    pub(crate) data: String,
    /// Train on the first N images only
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) train_limit: Option<usize>,
    /// Test on the first N images only
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) test_limit: Option<usize>,
}

/// How the learning rate runs and what SGD does with it.
#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Recipe {
    /// Passes over the training images
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    pub(crate) epochs: usize,
    /// Images in a step
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub(crate) batch: usize,
    /// Momentum, from 0 to below 1
    #[arg(long, value_name = "MU", default_value_t = 0.9, value_parser = momentum)]
    pub(crate) momentum: f64,
    /// Nesterov's momentum
    #[arg(long)]
    pub(crate) nesterov: bool,
    /// L2 decay of filters and linear weights
    #[arg(long, value_name = "ETA", default_value_t = 1e-4, value_parser = non_negative)]
    pub(crate) weight_decay: f64,
    /// Decay bias, gamma and beta too
    #[arg(long)]
    pub(crate) decay_all: bool,
    /// How the learning rate falls; step: to a tenth at each milestone
    #[arg(long, value_name = "COURSE", value_enum, default_value_t = Course::Cosine)]
    pub(crate) schedule: Course,
    /// Epochs at which --schedule step drops [default: at 50 % and 75 % of the run]
    #[arg(long, value_name = "EPOCH,EPOCH", value_delimiter = ',', value_parser = non_negative)]
    pub(crate) milestones: Vec<f64>,
    /// Epochs over which the learning rate rises to --lr; may be a fraction
    #[arg(long, value_name = "EPOCHS", default_value_t = 0.0, value_parser = non_negative)]
    pub(crate) warmup: f64,
    /// How training images are varied; auto: resized-crop for folders of images of 128 pixels and more, crop-flip for other
    /// images of three channels, flip for Fashion-MNIST, else none. crop-flip shifts by up to an eighth of the side (4
    /// pixels of 32)
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Variation::Auto)]
    pub(crate) augment: Variation,
}

impl Recipe {
    /// Momentum and weight decay.
    pub(crate) fn sgd(&self) -> SgdConfig {
        SgdConfig {
            momentum: self.momentum,
            direction: if self.nesterov { Direction::Nesterov } else { Direction::HeavyBall },
            weight_decay: self.weight_decay,
            decay: if self.decay_all { Decayed::All } else { Decayed::Weights },
        }
    }

    /// The learning rate of every step, `per_epoch` of them an epoch.
    ///
    /// # Errors
    /// Milestones of a schedule that has none, and what [`Schedule::validate`] refuses.
    pub(crate) fn schedule(&self, lr: f64, per_epoch: usize) -> Result<Schedule> {
        if !self.milestones.is_empty() && self.schedule != Course::Step {
            return Err(Error::new(ErrorKind::Argument, "reading --milestones")
                .expected("--schedule step with them")
                .found("another schedule, which has none"));
        }
        if !self.milestones.is_sorted() {
            return Err(Error::new(ErrorKind::Argument, "reading --milestones")
                .expected("ascending epochs")
                .found(listed(&self.milestones)));
        }
        if self.warmup > self.epochs as f64 {
            return Err(Error::new(ErrorKind::Argument, "reading --warmup")
                .expected(format!("at most the run's {} epochs", self.epochs))
                .found(format!("{} epochs", self.warmup)));
        }
        let total_steps = (self.epochs as u64).saturating_mul(per_epoch as u64);
        let step = |epochs: f64| (epochs * per_epoch as f64).round() as u64;
        let decay = match self.schedule {
            Course::Constant => Decay::Constant,
            Course::Cosine => Decay::Cosine { final_lr: 0.0 },
            Course::Step => {
                let milestones = if self.milestones.is_empty() {
                    vec![total_steps / 2, total_steps * 3 / 4]
                } else {
                    self.milestones.iter().map(|&epoch| step(epoch)).collect()
                };
                Decay::Step { milestones, gamma: 0.1 }
            }
        };
        let schedule = Schedule { base_lr: lr, total_steps, warmup_steps: step(self.warmup), decay };
        schedule.validate()?;
        Ok(schedule)
    }
}

fn listed(epochs: &[f64]) -> String {
    epochs.iter().map(f64::to_string).collect::<Vec<_>>().join(",")
}

/// How a learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Course {
    /// Along half a cosine, to 0.
    Cosine,
    /// To a tenth at each milestone.
    Step,
    /// Not at all.
    Constant,
}

/// How training images are varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variation {
    /// What suits the data.
    Auto,
    /// Not at all.
    None,
    /// Mirrored at random.
    Flip,
    /// Shifted and mirrored at random.
    CropFlip,
    /// A random part of 8 to 100 % of the area, resized, and mirrored at random; for folders of images.
    ResizedCrop,
}

impl Variation {
    /// Smallest side of images that are cut out of larger ones where nothing else is asked for: those of photographs, not of
    /// thumbnails.
    pub(crate) const CROPPED_FROM: usize = 128;

    /// Whether images of `shape` `[C, H, W]` in a folder are cut out of the files' at random.
    pub(crate) fn crops(self, [_, height, width]: [usize; 3]) -> bool {
        match self {
            Variation::ResizedCrop => true,
            Variation::Auto => height.min(width) >= Self::CROPPED_FROM,
            _ => false,
        }
    }

    /// The augmentation for images of `data`.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for resized crops of images that are not in files of their own.
    pub(crate) fn augment(self, data: &dyn Dataset) -> Result<Augment> {
        let (name, shape) = (data.name(), data.shape());
        if self == Variation::ResizedCrop && !data.decodes() {
            return Err(Error::new(ErrorKind::Argument, "reading --augment resized-crop")
                .expected("a folder of images (--data folder@224:DIR), which are cut before they are resized")
                .found(format!("{name}, whose images have their size already"))
                .next("Take --augment crop-flip"));
        }
        let crop_flip =
            Augment { pad: (shape[1].min(shape[2]) / 8).max(1), flip: Flip::Horizontal, ..Augment::NONE };
        let flip = Augment { flip: Flip::Horizontal, ..Augment::NONE };
        Ok(match self {
            Variation::ResizedCrop => Augment::RESIZED_CROP,
            Variation::Auto if data.decodes() && self.crops(shape) => Augment::RESIZED_CROP,
            Variation::None => Augment::NONE,
            Variation::Flip => flip,
            Variation::CropFlip => crop_flip,
            // Digits must not be mirrored, and the synthetic patterns have a direction.
            Variation::Auto if name == "synthetic" => Augment::NONE,
            Variation::Auto if shape[0] == 3 => crop_flip,
            Variation::Auto if name == "Fashion-MNIST" => flip,
            Variation::Auto => Augment::NONE,
        })
    }
}

/// Where a training run writes, and whether it may.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct RunArgs {
    /// Seed of weights, order of images, clusters and synthetic data
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub(crate) seed: u64,
    /// Go on with the interrupted run in --out; give the same options
    #[arg(long, conflicts_with = "force")]
    #[serde(skip)]
    pub(crate) resume: bool,
    /// Overwrite another run in --out
    #[arg(long)]
    #[serde(skip)]
    pub(crate) force: bool,
    /// What is done for a run's safety.
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) care: Care,
    /// Whether it is part of a demo.
    #[arg(skip)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) demo: bool,
}

/// What a training run does so that nothing is lost.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Safety")]
pub(crate) struct Care {
    /// Write the checkpoint not only every epoch but every so many minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 5.0, value_parser = non_negative)]
    pub(crate) checkpoint_minutes: f64,
    /// Keep the checkpoints of the last K epochs in OUT/checkpoints as well
    #[arg(long, value_name = "K", default_value_t = 0, value_parser = count)]
    pub(crate) keep_last: usize,
    /// Keep the checkpoint of the epoch with the best test accuracy in OUT/checkpoints as well
    #[arg(long)]
    pub(crate) keep_best: bool,
    /// When the loss is no longer finite: stop, or go back to the last checkpoint with half the learning rate
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnNan::Stop)]
    pub(crate) on_nan: OnNan,
    /// When the GPU is lost or out of memory: stop, or go on from the last checkpoint on the CPU
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnDeviceLoss::Stop)]
    pub(crate) on_device_loss: OnDeviceLoss,
    /// Give the GPU up after this step, to rehearse what then happens
    #[arg(long, value_name = "STEP", hide = true)]
    pub(crate) rehearse_device_loss: Option<u64>,
    /// Die before the Nth change to a file, to rehearse what then happens
    #[arg(long, value_name = "N", hide = true)]
    pub(crate) rehearse_kill: Option<u64>,
}

/// What to do when the loss is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnNan {
    /// End with a message.
    Stop,
    /// Go back and train more slowly.
    Rollback,
}

/// What to do when the device fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnDeviceLoss {
    /// End with a message.
    Stop,
    /// Go on there.
    Cpu,
}

/// `train`.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_help = "Examples:\n  \
    centripetal train lenet --data embedded\n  \
    centripetal train resnet20 --data cifar10:DIR --epochs 100 --batch 128 --lr 0.1 --warmup 1\n  \
    centripetal train resnet20 --data cifar10:DIR --width 1.6 --squeeze --epochs 100 --lr 0.1\n  \
    centripetal train resnet20 --data folder@64:DIR --width 0.5 --schedule step --milestones 50,75\n  \
    centripetal train resnet20 --data cifar10:DIR --epochs 100 --batch 128 --lr 0.1 --warmup 1 --resume\n\n\
    Folders of images: train/CLASS/... and val/CLASS/... or test/CLASS/..., PNG and JPEG by their content. Pictures are turned\n\
    as their EXIF data say, laid on white where they are transparent, 16 bits scaled to 8, CMYK turned into RGB.\n\n\
    Writes OUT/base.safetensors every epoch, OUT/metrics.jsonl, OUT/settings.json and OUT/report.json.")]
pub(crate) struct TrainArgs {
    #[arg(value_name = "MODEL", help = format!(
        "{}; or a checkpoint, whose weights the new run begins with", NAMES.join(", ")))]
    #[serde(rename = "MODEL")]
    pub(crate) model: String,
    /// The data.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) data: DataArgs,
    /// How to train.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) recipe: Recipe,
    /// Learning rate
    #[arg(long, value_name = "TAU", default_value_t = 0.05, value_parser = over_zero)]
    pub(crate) lr: f64,
    /// Factor on every layer's width [default: 1]
    #[arg(long, value_name = "FACTOR", value_parser = over_zero)]
    pub(crate) width: Option<f64>,
    /// Train by C-SGD with even clusters from the start, and cut to the width of factor 1 at the end; with --width over 1
    #[arg(long, requires = "width")]
    pub(crate) squeeze: bool,
    /// Number of classes [default: that of the data]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) classes: Option<usize>,
    /// Residual shortcuts of the CIFAR ResNets: projection (1x1 convolution) or a (zero padding) [default: projection]
    #[arg(long, value_name = "KIND")]
    pub(crate) shortcut: Option<Shortcut>,
    /// Seed, resume, force.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) run: RunArgs,
    /// Folder for the results [default: runs/MODEL-DATA]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub(crate) out: Option<PathBuf>,
}

/// What to keep of each layer.
#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[group(multiple = false)]
pub(crate) struct Keep {
    /// Keep this part of every layer's filters: 5/8, 0.625 or 62.5%; several, 13/16,11/16,5/8, are cut one after the other
    /// [default: 5/8]
    #[arg(long, value_name = "RATIO", value_parser = keep_ratio, value_delimiter = ',')]
    pub(crate) keep: Vec<Ratio>,
    /// Keep this part inside residual blocks only; what residual sums tie together stays
    #[arg(long, value_name = "RATIO", value_parser = keep_internal_ratio)]
    pub(crate) keep_internal: Option<Ratio>,
    /// Widths by layer: lines `NAME WIDTH` or `NAME RATIO`, * for any run of characters; or a JSON object
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) widths: Option<PathBuf>,
    /// Keep this part of the multiply-accumulates: every layer alike, the largest of 256 parts that is small enough
    #[arg(long, value_name = "PART", value_parser = part)]
    pub(crate) target_macs: Option<f64>,
}

/// `prune`.
#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_help = "Examples:\n  \
    centripetal prune runs/lenet-embedded/base.safetensors --data embedded --keep 5/8\n  \
    centripetal prune base.safetensors --data cifar10:DIR --keep-internal 1/2 --epochs 60 --out runs/half\n  \
    centripetal prune base.safetensors --data cifar10:DIR --widths widths.txt --freeze conv1\n  \
    centripetal prune base.safetensors --data cifar10:DIR --keep 13/16,11/16,5/8 --epochs 20 --out runs/steps\n  \
    centripetal prune base.safetensors --data cifar10:DIR --target-macs 0.5 --method l1 --finetune 20 --out runs/l1\n\n\
    Methods: csgd (Ding et al. 2019) trains until filters are identical and loses nothing by the cut. The others delete the\n\
    filters that matter least: l1 (Li et al. 2017), l2 (He et al. 2018), fpgm, near the geometric median (He et al. 2019),\n\
    taylor (Molchanov et al. 2019), random (Mittal et al. 2018), and, after --epochs of training under a penalty, bn-scale\n\
    (Liu et al. 2017) and group-lasso (Wen et al. 2016).\n\n\
    `--strength auto` takes the smallest strength whose forecast makes filters, and the batch norm statistics that follow\n\
    them, identical by the end of the schedule. A strength or a schedule that will not is refused before training, with\n\
    one that will; --snap goes on with it, and the certificate states what the snap changed.\n\
    Writes to OUT: base, wide and slim.safetensors, report.json, metrics.jsonl, settings.json and filters.png.")]
pub(crate) struct PruneArgs {
    /// The checkpoint to prune
    #[arg(value_name = "FILE")]
    #[serde(skip)]
    pub(crate) file: PathBuf,
    /// The data.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) data: DataArgs,
    /// What to keep.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) keep: Keep,
    /// How filters to give up are found and made superfluous
    #[arg(long, value_name = "METHOD", value_enum, default_value_t = Method::Csgd)]
    pub(crate) method: Method,
    /// Train the cut network for so many epochs more, at --lr and the same schedule; for other methods than csgd
    #[arg(long, value_name = "EPOCHS", default_value_t = 0, value_parser = count)]
    pub(crate) finetune: usize,
    /// Train the narrow architecture from random weights for --epochs instead of cutting anything
    #[arg(long, conflicts_with_all = ["method", "finetune", "snap", "max_accuracy_drop"])]
    pub(crate) from_scratch: bool,
    /// Weight of the penalty of bn-scale and group-lasso beside the loss
    #[arg(long, value_name = "LAMBDA", default_value_t = 1e-4, value_parser = over_zero)]
    pub(crate) sparsity: f64,
    /// Batches that taylor looks at
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    pub(crate) taylor_batches: usize,
    /// Cut in steps (those of --keep, else 7/8, 3/4, 5/8, 1/2, 3/8, 1/4) as long as the test accuracy falls by at most so
    /// many points
    #[arg(long, value_name = "POINTS", value_parser = non_negative)]
    pub(crate) max_accuracy_drop: Option<f64>,
    /// How to train.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) recipe: Recipe,
    /// Learning rate
    #[arg(long, value_name = "TAU", default_value_t = 0.03, value_parser = over_zero)]
    pub(crate) lr: f64,
    /// Centripetal strength eps, or auto
    #[arg(long, value_name = "EPS", default_value = "auto")]
    pub(crate) strength: Strength,
    /// How filters are clustered: kmeans (alike ones together), even (neighbours) or imbalanced (one large cluster)
    #[arg(long, value_name = "HOW", default_value = "kmeans")]
    pub(crate) clustering: Clustering,
    /// Whose filters decide in layers that share channels: the first layer's, or those of all side by side
    #[arg(long, value_name = "WHOSE", value_enum, default_value_t = PaceArg::Pacesetter)]
    pub(crate) pace: PaceArg,
    /// Which way fractions of a filter go: floor or ceil
    #[arg(long, value_name = "WAY", default_value = "floor")]
    pub(crate) rounding: Rounding,
    /// Widths are multiples of N
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub(crate) round_to: usize,
    /// Leave this layer (and those that share its channels) as wide as it is; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) freeze: Vec<String>,
    /// Before the cut move filters onto their cluster's mean, and certify that step too
    #[arg(long)]
    pub(crate) snap: bool,
    /// Print what happened to every layer
    #[arg(long, short)]
    #[serde(skip)]
    pub(crate) verbose: bool,
    /// Seed, resume, force.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) run: RunArgs,
    /// Folder for the results [default: the folder of FILE]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub(crate) out: Option<PathBuf>,
    /// Widths that another command has computed, instead of --keep.
    #[arg(skip)]
    #[serde(skip)]
    pub(crate) computed: Option<WidthsByNodes>,
}

/// How filters to give up are found and made superfluous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Method {
    /// Centripetal SGD.
    Csgd,
    /// Least sum of absolute weights.
    L1,
    /// Least Euclidean norm.
    L2,
    /// Nearest to all others.
    Fpgm,
    /// Least gamma, after training that makes gammas small.
    BnScale,
    /// Least change of the loss, to first order.
    Taylor,
    /// Any.
    Random,
    /// Least Euclidean norm, after training that makes filters small.
    GroupLasso,
}

impl Method {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// How it chooses; `None` for C-SGD, which does not.
    pub(crate) fn criterion(self) -> Option<Criterion> {
        match self {
            Method::Csgd => None,
            Method::L1 => Some(Criterion::L1),
            Method::L2 => Some(Criterion::L2),
            Method::Fpgm => Some(Criterion::Fpgm),
            Method::BnScale => Some(Criterion::BnScale),
            Method::Taylor => Some(Criterion::Taylor),
            Method::Random => Some(Criterion::Random),
            Method::GroupLasso => Some(Criterion::GroupLasso),
        }
    }
}

/// `compare`.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_help = "Example:\n  \
    centripetal compare base.safetensors --data cifar10:DIR --keep 5/8 --epochs 20 --methods csgd,l1,fpgm,scratch --out runs/compare\n\n\
    Every method gets the same base, widths, learning rate and --epochs. csgd spends them before the cut and none after it;\n\
    bn-scale and group-lasso half of them before and half after; the other methods all of them after it. scratch trains the\n\
    narrow architecture from random weights, and squeeze the base's by C-SGD from random weights, for --scratch-epochs.\n\
    Writes OUT/compare.html, OUT/compare.csv, and each method's run to OUT/METHOD.")]
#[command(mut_arg("keep", |keep| keep.help("Keep this part of every layer's filters: 5/8, 0.625 or 62.5% [default: 5/8]")))]
pub(crate) struct CompareArgs {
    /// The checkpoint to prune
    #[arg(value_name = "FILE")]
    #[serde(skip)]
    pub(crate) file: PathBuf,
    /// The data.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) data: DataArgs,
    /// What to keep.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) keep: Keep,
    /// What to compare
    #[arg(
        long,
        value_name = "METHOD,METHOD",
        value_enum,
        value_delimiter = ',',
        default_value = "csgd,l1,l2,fpgm,bn-scale,taylor,random,group-lasso,scratch,squeeze"
    )]
    #[serde(skip)]
    pub(crate) methods: Vec<Contender>,
    /// How to train.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) recipe: Recipe,
    /// Learning rate
    #[arg(long, value_name = "TAU", default_value_t = 0.03, value_parser = over_zero)]
    pub(crate) lr: f64,
    /// Epochs of scratch and squeeze [default: --epochs]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) scratch_epochs: Option<usize>,
    /// Learning rate of scratch and squeeze [default: --lr]
    #[arg(long, value_name = "TAU", value_parser = over_zero)]
    pub(crate) scratch_lr: Option<f64>,
    /// Weight of the penalty of bn-scale and group-lasso beside the loss
    #[arg(long, value_name = "LAMBDA", default_value_t = 1e-4, value_parser = over_zero)]
    pub(crate) sparsity: f64,
    /// Whose filters decide in layers that share channels: the first layer's, or those of all side by side
    #[arg(long, value_name = "WHOSE", value_enum, default_value_t = PaceArg::Pacesetter)]
    pub(crate) pace: PaceArg,
    /// Leave this layer (and those that share its channels) as wide as it is; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) freeze: Vec<String>,
    /// Seed, resume, force.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) run: RunArgs,
    /// Folder for the results
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub(crate) out: PathBuf,
}

/// What `compare` can compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    /// Centripetal SGD.
    Csgd,
    /// Least sum of absolute weights.
    L1,
    /// Least Euclidean norm.
    L2,
    /// Nearest to all others.
    Fpgm,
    /// Least gamma, after training that makes gammas small.
    BnScale,
    /// Least change of the loss, to first order.
    Taylor,
    /// Any.
    Random,
    /// Least Euclidean norm, after training that makes filters small.
    GroupLasso,
    /// The narrow architecture from random weights.
    Scratch,
    /// The base's architecture from random weights by C-SGD, then cut.
    Squeeze,
}

impl Contender {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The pruning method that it is.
    pub(crate) fn method(self) -> Option<Method> {
        match self {
            Contender::Csgd => Some(Method::Csgd),
            Contender::L1 => Some(Method::L1),
            Contender::L2 => Some(Method::L2),
            Contender::Fpgm => Some(Method::Fpgm),
            Contender::BnScale => Some(Method::BnScale),
            Contender::Taylor => Some(Method::Taylor),
            Contender::Random => Some(Method::Random),
            Contender::GroupLasso => Some(Method::GroupLasso),
            Contender::Scratch | Contender::Squeeze => None,
        }
    }
}

/// [`Pace`] for the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PaceArg {
    /// The first layer's, as in the paper.
    Pacesetter,
    /// Those of all, side by side.
    Joint,
}

impl From<PaceArg> for Pace {
    fn from(pace: PaceArg) -> Self {
        match pace {
            PaceArg::Pacesetter => Pace::Pacesetter,
            PaceArg::Joint => Pace::Joint,
        }
    }
}

/// `--strength`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Strength {
    /// From the forecast.
    Auto,
    /// As given.
    #[serde(untagged)]
    Fixed(f64),
}

impl std::str::FromStr for Strength {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "auto" {
            return Ok(Strength::Auto);
        }
        over_zero(text).map(Strength::Fixed).map_err(|_| "expected auto or a number over 0".to_owned())
    }
}

/// `eval`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    centripetal eval runs/lenet-embedded/slim.safetensors --data embedded\n  \
    centripetal eval slim.safetensors --data cifar10:DIR --json")]
pub(crate) struct EvalArgs {
    /// The checkpoint
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[arg(
        long,
        value_name = "DATA",
        value_parser = form,
        help = format!("The data set, of which the test images are used: {FORMS}")
    )]
    pub(crate) data: String,
    /// Test on the first N images only
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) test_limit: Option<usize>,
    /// Images computed at once [default: 32, on a hardware GPU 256]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) batch: Option<usize>,
    /// Seed of synthetic data
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub(crate) seed: u64,
}

/// `info`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    centripetal info resnet56 --couplings\n  \
    centripetal info runs/lenet-embedded/slim.safetensors --batch 64\n  \
    centripetal info lenet --input 1x28x28")]
pub(crate) struct InfoArgs {
    #[arg(value_name = "MODEL", help = format!("A checkpoint, or {}", NAMES.join(", ")))]
    pub(crate) model: String,
    /// State the memory that batches of N images take
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) batch: Option<usize>,
    /// List which layers share channels, and who sets the pace
    #[arg(long)]
    pub(crate) couplings: bool,
    /// Shape of an image for a zoo model
    #[arg(long, value_name = "CxHxW", default_value = "3x32x32", value_parser = shape)]
    pub(crate) input: Shape,
    /// Number of classes of a zoo model
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    pub(crate) classes: usize,
    /// Factor on every width of a zoo model
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = over_zero)]
    pub(crate) width: f64,
    /// Residual shortcuts of a zoo model: projection or a
    #[arg(long, value_name = "KIND", default_value = "projection")]
    pub(crate) shortcut: Shortcut,
}

/// `import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    centripetal import mobilenet.onnx --out runs/mobilenet\n  \
    centripetal import network.onnx --input 3x64x64 --insert-bn --out runs/network\n  \
    centripetal import resnet20.safetensors --model resnet20 --out runs/resnet20\n  \
    centripetal import weights.safetensors --model vgg16 --mean 0.4914,0.4822,0.4465 --std 0.247,0.2435,0.2616 --out runs/vgg\n\n\
    From PyTorch: torch.onnx.export(model.eval(), images, \"network.onnx\"), or\n\
    safetensors.torch.save_file(model.state_dict(), \"weights.safetensors\").\n\
    Names of a state_dict as in akamaster/pytorch_resnet_cifar10 and torchvision; a prefix of all names (`module.`, `model.backbone.`) is left out.\n\
    What a file is, its content says, not its name. Files of `export` bring their mean, deviation and class names.")]
pub(crate) struct ImportArgs {
    /// A classifier in ONNX, or a state_dict in safetensors
    #[arg(value_name = "FILE")]
    pub(crate) weights: PathBuf,
    #[arg(long, value_name = "MODEL", help = format!("Architecture of a state_dict: {}", NAMES.join(", ")))]
    pub(crate) model: Option<String>,
    /// Output of an ONNX file that gives the logits, or any value within it [default: of several, the first that ends in a linear layer or a convolution]
    #[arg(long, value_name = "NAME")]
    pub(crate) output: Option<String>,
    /// Put a batch norm behind every convolution of an ONNX file that has none; it is the identity until it is trained
    #[arg(long)]
    pub(crate) insert_bn: bool,
    /// Factor on every layer's width
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = over_zero)]
    pub(crate) width: f64,
    /// Number of classes [default: from the last tensor]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) classes: Option<usize>,
    /// Residual shortcuts: projection or a [default: from the tensors' names]
    #[arg(long, value_name = "KIND")]
    pub(crate) shortcut: Option<Shortcut>,
    /// Shape of an image [default: as an ONNX file or a file of `export` says; else the usual side of the model (224, 32, or 28 for lenet) and the channels of its first filters]
    #[arg(long, value_name = "CxHxW", value_parser = shape)]
    pub(crate) input: Option<Shape>,
    /// Means that its images were normalised with, of the range 0 to 1 [default: as the file says or its first nodes do it; else .485,.456,.406 for three channels]
    #[arg(
        long,
        value_name = "A,B,C",
        value_delimiter = ',',
        requires = "std",
        value_parser = finite
    )]
    pub(crate) mean: Vec<f32>,
    /// Standard deviations, likewise [default: as the file says; else .229,.224,.225 for three channels]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', requires = "mean", value_parser = deviation)]
    pub(crate) std: Vec<f32>,
    /// Folder for base.safetensors
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Overwrite another run in --out
    #[arg(long)]
    pub(crate) force: bool,
}

/// `export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    centripetal export runs/lenet-embedded/slim.safetensors --onnx slim.onnx --fold-bn\n  \
    centripetal export runs/lenet-embedded/slim.safetensors --safetensors weights.safetensors\n\n\
    In PyTorch: model.load_state_dict(safetensors.torch.load_file(\"weights.safetensors\")).\n\
    ONNX: opset 17, input `input` of any batch, output `logits`. What to feed (layout, range, mean, deviation) and the class\n\
    names are in both files, as JSON in the metadata entry `centripetal.description`: in onnxruntime\n\
    json.loads(session.get_modelmeta().custom_metadata_map[\"centripetal.description\"]), in safetensors\n\
    safe_open(FILE, \"np\").metadata(). `import` reads it back.")]
#[group(id = "target", required = true, multiple = true, args = ["safetensors", "onnx"])]
pub(crate) struct ExportArgs {
    /// The checkpoint
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write the tensors alone, by their PyTorch names
    #[arg(long, value_name = "OUT")]
    pub(crate) safetensors: Option<PathBuf>,
    /// Write the network as ONNX
    #[arg(long, value_name = "OUT")]
    pub(crate) onnx: Option<PathBuf>,
    /// Fold batch norms into the layers before them
    #[arg(long)]
    pub(crate) fold_bn: bool,
    /// Overwrite OUT
    #[arg(long)]
    pub(crate) force: bool,
}

/// `report`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  centripetal report runs/lenet-embedded")]
pub(crate) struct ReportArgs {
    /// The folder of a run; DIR/report.html is written
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// The command line, whose values may begin with a minus sign.
pub(crate) fn parse() -> Cli {
    Cli::parse_from(with_negative_values(std::env::args_os()))
}

/// `words` with `--option -value` as `--option=-value` where the value is a number, so that the option says what it expects;
/// otherwise it would be taken for an option of its own.
fn with_negative_values(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let is_number = |word: &str| {
        word.strip_prefix('-').is_some_and(|rest| {
            let rest = rest.trim_start_matches('.').to_ascii_lowercase();
            rest.starts_with(|first: char| first.is_ascii_digit())
                || ["inf", "infinity", "nan"].contains(&rest.as_str())
        })
    };
    let mut joined: Vec<OsString> = Vec::new();
    let mut is_over = false;
    for word in words {
        let open = joined.last().and_then(|last| last.to_str()).is_some_and(|last| {
            last.len() > 2 && last.starts_with("--") && !last.contains('=') && joined.len() > 1
        });
        match joined.last_mut() {
            Some(last) if open && !is_over && word.to_str().is_some_and(is_number) => {
                last.push("=");
                last.push(word);
            }
            _ => {
                is_over |= word == "--";
                joined.push(word);
            }
        }
    }
    joined
}

/// Most that a count on the command line may be: beyond it are slips of the keyboard, and sums that overflow.
const MOST: usize = 1_000_000_000;

fn whole(text: &str, least: usize) -> std::result::Result<usize, String> {
    let fits = |n: &usize| (least..=MOST).contains(n);
    text.parse().ok().filter(fits).ok_or_else(|| format!("expected a whole number from {least} to {MOST}"))
}

fn positive(text: &str) -> std::result::Result<usize, String> {
    whole(text, 1)
}

fn count(text: &str) -> std::result::Result<usize, String> {
    whole(text, 0)
}

fn seed(text: &str) -> std::result::Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

fn finite(text: &str) -> std::result::Result<f32, String> {
    narrow(number(text, "a finite number", |_| true)?)
}

fn deviation(text: &str) -> std::result::Result<f32, String> {
    narrow(over_zero(text)?)
        .and_then(|x| if x > 0.0 { Ok(x) } else { Err("expected a number over 0".to_owned()) })
}

fn narrow(number: f64) -> std::result::Result<f32, String> {
    let narrow = number as f32;
    if narrow.is_finite() { Ok(narrow) } else { Err("expected a number that fits 32 bits".to_owned()) }
}

fn number(text: &str, expected: &str, accept: impl Fn(f64) -> bool) -> std::result::Result<f64, String> {
    text.parse()
        .ok()
        .filter(|&x: &f64| x.is_finite() && accept(x))
        .ok_or_else(|| format!("expected {expected}"))
}

fn over_zero(text: &str) -> std::result::Result<f64, String> {
    number(text, "a number over 0", |x| x > 0.0)
}

fn non_negative(text: &str) -> std::result::Result<f64, String> {
    number(text, "a number of at least 0", |x| x >= 0.0)
}

fn momentum(text: &str) -> std::result::Result<f64, String> {
    number(text, "a number from 0 to below 1", |x| (0.0..1.0).contains(&x))
}

fn part(text: &str) -> std::result::Result<f64, String> {
    number(text, "a part over 0 and below 1", |x| x > 0.0 && x < 1.0)
}

fn keep_ratio(text: &str) -> Result<Ratio> {
    Ratio::parse("--keep", text)
}

fn keep_internal_ratio(text: &str) -> Result<Ratio> {
    Ratio::parse("--keep-internal", text)
}

fn shape(text: &str) -> std::result::Result<Shape, String> {
    const LARGEST: usize = 4096;
    let sides: Vec<usize> = text.split('x').map_while(|side| side.parse().ok()).collect();
    match sides[..] {
        [c, h, w]
            if sides.iter().all(|side| (1..=LARGEST).contains(side)) && text.matches('x').count() == 2 =>
        {
            Ok(Shape::new(c, h, w))
        }
        _ => Err(format!("expected channels x height x width such as 3x32x32, none over {LARGEST}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use centripetal::data::{InMemory, Normalization};
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_that_can_never_be_right_are_usage_errors() {
        let base = ["centripetal", "prune", "f", "--data", "embedded"];
        for bad in [
            ["--keep", "9/8"],
            ["--keep", "0"],
            ["--strength", "-1"],
            ["--strength", "strong"],
            ["--momentum", "1"],
            ["--epochs", "0"],
            ["--lr", "NaN"],
            ["--batch", "-3"],
            ["--target-macs", "1"],
            ["--keep", "5/8,9/8"],
        ] {
            let arguments = base.iter().chain(&bad);
            assert!(Cli::try_parse_from(arguments).is_err(), "{bad:?}");
        }
        let both = base.iter().chain(&["--keep", "1/2", "--keep-internal", "1/2"]);
        assert!(Cli::try_parse_from(both).is_err(), "one rule for widths alone");
        assert!(Cli::try_parse_from(["centripetal", "demo", "--epochs", "1"]).is_err());
        assert!(Cli::try_parse_from(["centripetal"]).is_ok_and(|cli| cli.command.is_none()));
    }

    #[test]
    fn numbers_that_can_never_be_right_are_told_in_words() {
        let told = |option: &str, value: &str| {
            let words =
                ["centripetal", "train", "lenet", "--data", "embedded", option, value].map(OsString::from);
            Cli::try_parse_from(with_negative_values(words)).err().map(|error| error.to_string())
        };
        let numbers = ["-0.1", "-.1", "-1e400", "-inf", "-NaN", "nan", "inf", "1e400", "many", ""];
        for (option, expected) in [
            ("--lr", "expected a number over 0"),
            ("--width", "expected a number over 0"),
            ("--weight-decay", "expected a number of at least 0"),
            ("--warmup", "expected a number of at least 0"),
            ("--milestones", "expected a number of at least 0"),
            ("--checkpoint-minutes", "expected a number of at least 0"),
            ("--momentum", "expected a number from 0 to below 1"),
            ("--epochs", "expected a whole number from 1 to 1000000000"),
            ("--batch", "expected a whole number from 1 to 1000000000"),
            ("--train-limit", "expected a whole number from 1 to 1000000000"),
            ("--classes", "expected a whole number from 1 to 1000000000"),
            ("--keep-last", "expected a whole number from 0 to 1000000000"),
            ("--seed", "expected a whole number from 0 to 18446744073709551615"),
        ] {
            for number in numbers {
                let text = told(option, number).unwrap_or_else(|| panic!("{option} {number} is taken"));
                let named = text.contains(expected) && text.contains(option);
                // clap itself says that a value is missing where it is empty.
                assert!(named || number.is_empty() && text.contains(option), "{option} {number}: {text}");
            }
        }
        for whole in ["99999999999999999999", "1e3", "1.5", "1000000001"] {
            assert!(told("--epochs", whole).unwrap().contains("whole number"), "{whole}");
        }
        assert!(told("--lr", "0").unwrap().contains("over 0"));
        assert_eq!(told("--lr", "1e-3"), None);
        assert!(told("--nesterov", "-1").unwrap().contains("--nesterov"));
        let words = ["centripetal", "import", "f", "--out", "o", "--mean", "-0.5,0,1", "--std", "1,1,1"];
        assert!(Cli::try_parse_from(with_negative_values(words.map(OsString::from))).is_ok());
        for (option, value, expected) in [
            ("--mean", "nan", "a finite number"),
            ("--std", "-1", "over 0"),
            ("--std", "1e-60", "over 0"),
            ("--mean", "1e60", "32 bits"),
        ] {
            let words = ["centripetal", "import", "f", "--out", "o", option, value].map(OsString::from);
            let text = Cli::try_parse_from(with_negative_values(words)).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
        // Words behind -- are no options.
        let words = ["centripetal", "eval", "--data", "embedded", "--", "-1"].map(OsString::from);
        assert!(Cli::try_parse_from(with_negative_values(words)).is_ok());
    }

    #[test]
    fn schedules_are_refused_in_the_unit_that_was_given() {
        let recipe = |words: &[&str]| {
            let base = ["centripetal", "train", "lenet", "--data", "embedded"];
            match Cli::try_parse_from(base.iter().chain(words)).unwrap().command {
                Some(Command::Train(args)) => args.recipe,
                other => panic!("{other:?}"),
            }
        };
        let refused = |words: &[&str]| recipe(words).schedule(0.1, 100).unwrap_err().to_string();
        assert_eq!(
            refused(&["--schedule", "step", "--milestones", "7.5,5"]),
            "reading --milestones: expected ascending epochs, found 7.5,5"
        );
        assert_eq!(
            refused(&["--warmup", "12"]),
            "reading --warmup: expected at most the run's 10 epochs, found 12 epochs"
        );
        let schedule = recipe(&["--schedule", "step", "--milestones", "5,7.5"]).schedule(0.1, 100).unwrap();
        assert_eq!(schedule.decay, Decay::Step { milestones: vec![500, 750], gamma: 0.1 });
    }

    #[test]
    fn shapes_are_read_whole() {
        assert_eq!(shape("1x28x30"), Ok(Shape::new(1, 28, 30)));
        for bad in ["28x28", "1x28x28x", "0x28x28", "1x28x28x1", "axbxc", "1x28x99999"] {
            assert!(shape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn augmentation_suits_the_data() {
        let data = |name: &str, shape: [usize; 3]| {
            let statistics = Normalization { mean: vec![0.0; shape[0]], std: vec![1.0; shape[0]] };
            let images = vec![0; shape.iter().product()];
            InMemory::new(name, shape, vec!["a".into()], images, vec![0], statistics).unwrap()
        };
        let auto = |name, shape| Variation::Auto.augment(&data(name, shape)).unwrap();
        assert_eq!(auto("CIFAR-10", [3, 32, 32]), Augment::CIFAR);
        assert_eq!(auto("MNIST", [1, 28, 28]), Augment::NONE);
        assert_eq!(auto("Fashion-MNIST", [1, 28, 28]), Augment { flip: Flip::Horizontal, ..Augment::NONE });
        assert_eq!(Variation::CropFlip.augment(&data("MNIST", [1, 28, 28])).unwrap().pad, 3);
        // In memory, images have their size already.
        assert_eq!(auto("photographs", [3, 224, 224]).pad, 28);
        let refused = Variation::ResizedCrop.augment(&data("CIFAR-10", [3, 32, 32])).unwrap_err().to_string();
        assert!(refused.contains("folder@224:DIR") && refused.contains("found CIFAR-10"), "{refused}");
    }
}
