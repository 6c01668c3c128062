/**
 * The exercises: each begins with the real shader from which something was taken, so it can never drift from the file.
 * Tests hold that every starting text fails its check and every solution, the file itself, passes.
 */

export interface Exercise {
  title: string;
  kernel: string;
  /** The file in `shaders/`. */
  shader: string;
  /** What the starting text has instead of what the file has. */
  changes: [file: string, start: string][];
  hints: string[];
  /** For the teacher's page. */
  answer: string;
}

export const EXERCISES: Record<string, Exercise> = {
  'conv-step': {
    title: 'Stride and dilation',
    kernel: 'conv2d_forward',
    shader: 'conv2d_forward_direct',
    changes: [
      ['let h = p * params.stride_h + r * params.dilation_h - params.pad_top;', 'let h = p + r - params.pad_top;'],
      ['let w = q * params.stride_w + s * params.dilation_w - params.pad_left;', 'let w = q + s - params.pad_left;'],
    ],
    hints: [
      'Which case fails first? Its name says what is special about it.',
      'With stride 2 output pixel p looks at rows that begin at 2p, not at p.',
      'With dilation d the taps of the filter lie d pixels apart: tap r is r · d rows below the first.',
    ],
    answer: 'h = p · stride_h + r · dilation_h − pad_top, and w likewise.',
  },
  'conv-border': {
    title: 'The border',
    kernel: 'conv2d_forward',
    shader: 'conv2d_forward_direct',
    changes: [['                if h < params.h && w < params.w {', '                if true {']],
    hints: [
      'Outside of the image x is 0, so such a tap adds nothing.',
      'h is a u32. Above the image the subtraction wraps round to about 4 billion, so one comparison finds both sides.',
    ],
    answer: 'Add a tap only if h < params.h and w < params.w; wrapped numbers are larger than any image.',
  },
  'relu-gradient': {
    title: 'The gradient of ReLU',
    kernel: 'relu_backward',
    shader: 'relu_backward',
    changes: [['    let gradient = select(0.0, dy[i], y[i] > 0.0);', '    let gradient = dy[i];']],
    hints: [
      'Where ReLU gave 0, a small change of x changes nothing.',
      'select(a, b, condition) is b where the condition holds, else a.',
    ],
    answer: 'dx = dy where y > 0, else 0: select(0.0, dy[i], y[i] > 0.0).',
  },
  'bias-gradient': {
    title: 'The gradient of the bias',
    kernel: 'conv2d_bias_gradient',
    shader: 'conv2d_bias_gradient',
    changes: [
      ['        sum += dy[(pixel / area * params.k + k) * area + pixel % area];', '        sum += dy[k * area + pixel];'],
    ],
    hints: [
      'dy has four dimensions, N K P Q. The bias of filter k meets every image n and every pixel, but only channel k.',
      'Number `pixel` counts over all images: it lies in image pixel / area, at place pixel % area.',
    ],
    answer: 'Number `pixel` of channel k is dy[(n·K + k)·area + place] with n = pixel / area and place = pixel % area.',
  },
  'tile': {
    title: 'A tile read twice',
    kernel: 'conv2d_forward',
    shader: 'conv2d_forward_tiled',
    changes: [
      ['            let b = patches[row * 32u + local % 16u + 16u];', '            let b = patches[row * 32u + local % 16u];'],
    ],
    hints: [
      'Every invocation computes two groups of four pixels, 64 pixels apart. Which numbers of the tile are the second group?',
      'A row of `patches` holds 128 pixels, as 32 vectors of four. 64 pixels further is 16 vectors further.',
    ],
    answer: 'The second group lies 16 vectors of four pixels further: local % 16u + 16u.',
  },
  'variance': {
    title: 'Which variance?',
    kernel: 'batch_norm_statistics',
    shader: 'batch_norm_statistics',
    changes: [
      ['        inv_std[c] = 1.0 / sqrt(all.squares / all.count + params.eps);', '        inv_std[c] = 1.0 / sqrt(unbiased + params.eps);'],
    ],
    hints: [
      'PyTorch divides by the number of values to normalise, and by one less for the running variance.',
      'The sum of squared deviations is all.squares, the number of values is all.count.',
    ],
    answer: 'The batch is normalised by the biased variance, all.squares / all.count. Only running_var gets the unbiased one.',
  },
  'affine': {
    title: 'Two numbers to learn',
    kernel: 'batch_norm_normalize',
    shader: 'batch_norm_normalize',
    changes: [
      ['    let scale = inv_std[c] * gamma[c];', '    let scale = inv_std[c];'],
      ['    let shift = beta[c];', '    let shift = 0.0;'],
    ],
    hints: ['Normalised numbers have mean 0 and variance 1. The layer may want others.', 'gamma scales, beta shifts; both by channel.'],
    answer: 'y = (x − mean) · inv_std · gamma + beta.',
  },
  'momentum': {
    title: 'Momentum',
    kernel: 'sgd_step',
    shader: 'sgd_step',
    changes: [['    let v = params.momentum * momentum[i] + g;', '    let v = g;']],
    hints: ['v is what is left of the steps before, and the gradient on top.', 'momentum[i] holds v of the step before; params.momentum says how much of it is left.'],
    answer: 'v = μ · v + g, kept in momentum[i].',
  },
  'centripetal': {
    title: 'The centripetal term',
    kernel: 'csgd_step',
    shader: 'csgd_step',
    changes: [
      ['        var g = gradient;', '        var g = gradients[i];'],
      ['            g += params.strength * (parameters[i] - mean);\n', '            // pull the member to the mean of its cluster\n'],
    ],
    hints: [
      'Members share one gradient: the mean, which the loop above has computed.',
      'The pull is strength times the way from the mean to the member. A step goes against it.',
      'parameters[i] − mean is that way; add params.strength times it to g.',
    ],
    answer: 'var g = gradient (the mean over the cluster), and g += strength · (parameters[i] − mean) in clusters of more than one.',
  },
  'deviation': {
    title: 'How far from one',
    kernel: 'cluster_deviation',
    shader: 'cluster_deviation',
    changes: [
      ['                let distance = rows[members[m] + column] - mean;', '                let distance = rows[members[m] + column];'],
    ],
    hints: ['The deviation is the distance to the cluster’s mean, squared and summed.', 'The mean of this column is there already.'],
    answer: 'distance = rows[members[m] + column] − mean.',
  },
  'inference': {
    title: 'Batch norm after training',
    kernel: 'batch_norm_inference',
    shader: 'batch_norm_inference',
    changes: [
      ['gamma[c] / sqrt(running_var[c] + params.eps);', 'gamma[c] / (running_var[c] + params.eps);'],
    ],
    hints: ['A variance is a square. The numbers are divided by the standard deviation.'],
    answer: 'Divide by sqrt(running_var + eps).',
  },
  'shortcut': {
    title: 'Channels of zeros',
    kernel: 'channel_pad_forward',
    shader: 'channel_pad_forward',
    changes: [
      ['    if channel == NONE {\n        y[i] = 0.0;\n        return;\n    }\n', ''],
    ],
    hints: ['source[k] says which input channel output channel k comes from. Some come from none.', 'NONE is the number that says so. What is the output there?'],
    answer: 'Where source[k] is NONE write 0 and return.',
  },
  'proximal': {
    title: 'Zero is the end',
    kernel: 'shrink_rows',
    shader: 'shrink_rows',
    changes: [
      ['    let factor = select(0.0, 1.0 - params.amount / norm, norm > params.amount);', '    let factor = 1.0 - params.amount / norm;'],
    ],
    hints: ['What happens to a filter whose norm is smaller than the amount to take away?', 'And to one that is zero already: what is amount / 0?'],
    answer: 'The factor is max(0, 1 − amount / norm), and 0 for a row that is zero: select(0.0, …, norm > amount).',
  },
  'last-tile': {
    title: 'The last tile',
    kernel: 'conv2d_forward',
    shader: 'conv2d_forward',
    changes: [['    let group_tiles = (group_filters + 7u) / 8u;', '    let group_tiles = group_filters / 8u;']],
    hints: [
      'Look at k, the number of filters of the case that fails. How many tiles of 8 do they need?',
      'Division of whole numbers rounds down. To round a / 8 up, add 7 to a before.',
    ],
    answer: 'Round up: (group_filters + 7) / 8. What the last tile has too many repeats the last filter and is not stored.',
  },
  'pooling': {
    title: 'A mean for every channel',
    kernel: 'global_avg_pool_forward',
    shader: 'global_avg_pool_forward',
    changes: [['    y[i] = sum / f32(params.pixels);', '    y[i] = sum;']],
    hints: ['A mean is a sum over a count.', 'params.pixels is a u32; f32(…) makes a float of it.'],
    answer: 'y = sum / f32(pixels).',
  },
};

/** The starting text of an exercise, from the text of its file. */
export function startOf(exercise: Exercise, file: string): string {
  return exercise.changes.reduce((text, [from, to]) => {
    if (text.split(from).length !== 2) throw new Error(`${exercise.shader}: "${from}" is not there once`);
    return text.replace(from, () => to);
  }, file);
}
