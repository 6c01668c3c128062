//! `train --squeeze`: a wide network with even clusters from its random weights on, trained by C-SGD and cut to the normal
//! width.

use std::path::Path;

use centripetal::formats::{Checkpoint, Provenance, Stage};
use centripetal::graph::{Coupling, Graph};
use centripetal::model::Model;
use centripetal::prune::target::WidthsByNodes;
use centripetal::prune::{Clustering, Clusters, target};
use centripetal::{Error, ErrorKind, Result, Shape};
use serde_json::Value;

use super::{Named, Outcome, Scene, build, named, prune};
use crate::args::{Keep, Method, PaceArg, PruneArgs, Strength, TrainArgs};
use crate::run_folder::BASE;

/// The widths of the groups of `narrow` for a wider network of the same nodes.
fn widths_of(narrow: &Graph) -> Result<WidthsByNodes> {
    Ok(target::widths(&Coupling::derive(narrow, &[])?, &Clusters::default()))
}

/// Trains and cuts as `args` say, into `out`; `resume` is the command that goes on after an interruption.
pub(super) fn train(scene: &Scene, args: &TrainArgs, out: &Path, resume: &str) -> Result<Outcome<Value>> {
    let width = args.width.unwrap_or(1.0);
    let error = || Error::new(ErrorKind::Argument, format!("squeezing {}", args.model));
    let Named::Zoo(name) = named(&args.model)? else {
        return Err(error()
            .expected("the name of a zoo model, whose width 1 is known")
            .found("a checkpoint"));
    };
    if width <= 1.0 {
        return Err(error().expected("--width over 1, of which 1 is left").found(width));
    }
    let splits = scene.open_data(&args.data, args.recipe.augment, args.run.seed, None)?;
    let [c, h, w] = splits.train.shape();
    let classes = args.classes.unwrap_or(splits.train.classes().len());
    let graph =
        |width: f64| build(&name, Shape::new(c, h, w), classes, width, args.shortcut.unwrap_or_default());
    let (wide, narrow) = (graph(width)?, graph(1.0)?);
    let provenance = Provenance {
        stage: Stage::Base,
        seed: args.run.seed,
        classes: splits.train.classes().to_vec(),
        normalization: Some(splits.train.normalization().clone()),
        data: splits.train.name().to_owned(),
    };
    let pruning = PruneArgs {
        file: out.join(BASE),
        data: args.data.clone(),
        keep: Keep { keep: Vec::new(), keep_internal: None, widths: None, target_macs: None },
        method: Method::Csgd,
        finetune: 0,
        from_scratch: false,
        sparsity: 1e-4,
        taylor_batches: 1,
        max_accuracy_drop: None,
        recipe: args.recipe.clone(),
        lr: args.lr,
        strength: Strength::Auto,
        clustering: Clustering::Even,
        pace: PaceArg::Pacesetter,
        rounding: Default::default(),
        round_to: 1,
        freeze: Vec::new(),
        snap: false,
        verbose: false,
        run: args.run.clone(),
        out: Some(out.to_owned()),
        computed: Some(widths_of(&narrow)?),
    };
    from_random(scene, wide, provenance, &pruning, resume)
}

/// Gives `wide` random weights and prunes that by C-SGD, as the base of `args`, whose file it becomes.
pub(super) fn from_random(
    scene: &Scene,
    wide: Graph,
    provenance: Provenance,
    args: &PruneArgs,
    resume: &str,
) -> Result<Outcome<Value>> {
    let model = Model::random(wide, args.run.seed);
    let untrained = Checkpoint { model, provenance, clusters: None, training: None };
    prune::prune(scene, args, Some(untrained), resume)
}
