/** Loss and accuracy, and the deviation of clusters with its forecast, by uPlot. */

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { onTheme, theme } from './colours';
import { percent, powerOfTen, scientific } from './format';
import type { Sample, State, Store } from './state';

const FLOOR = 1e-16;
const LOWEST = 200;
/** A deviation that grows beyond so many times its start leaves the picture at the top. */
const MOST_GROWTH = 1000;
/** The first batches may lose more, and would flatten all that follows. */
const HIGHEST_LOSS = 3;

export class CurvesPanel {
  #state: State;
  #training: uPlot | null = null;
  #deviation: uPlot | null = null;
  #describedAt = -Infinity;

  constructor(readonly trainingBox: HTMLElement, readonly deviationBox: HTMLElement, readonly trainingNote: HTMLElement, readonly deviationNote: HTMLElement, store: Store) {
    this.#state = store.state;
    const rebuild = () => this.#build();
    onTheme(() => requestAnimationFrame(rebuild));
    new ResizeObserver(() => this.#resize()).observe(trainingBox.parentElement!);
    store.subscribe((_, changed) => {
      if (['samples', 'forecast', 'clusteredAt', 'cutAt', 'deviationAtStart'].some((key) => changed.has(key as keyof State))) this.#update();
    });
    rebuild();
  }

  #build(): void {
    this.#training?.destroy();
    this.#deviation?.destroy();
    const { accent, warm, good, muted, line, font } = theme();
    const axis = { stroke: muted, font: `11px ${font}`, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
    const width = (box: HTMLElement) => Math.max(120, box.clientWidth);
    const marks = { hooks: { draw: [(plot: uPlot) => this.#marks(plot)] } };
    const common = { height: height(this.trainingBox), legend: { show: false }, cursor: { y: false, points: { size: 6 } }, plugins: [marks], padding: [8, 14, 0, 0] as uPlot.Padding };
    this.#training = new uPlot({
      ...common,
      width: width(this.trainingBox),
      scales: { x: { time: false, range: (_, min, max) => [min ?? 0, Math.max(max ?? 0, (min ?? 0) + 20)] }, y: { range: [0, 1] }, loss: { range: (_, __, max) => [0, Math.min(HIGHEST_LOSS, Math.max(0.5, (max || 2.5) * 1.05))] } },
      axes: [
        { ...axis, size: 24 },
        { ...axis, size: 42, values: (_, ticks) => ticks.map((tick) => percent(tick, 0)) },
        { ...axis, side: 1, scale: 'loss', size: 34, grid: { show: false } },
      ],
      series: [
        {},
        { stroke: accent, width: 2, spanGaps: true },
        { stroke: good, width: 0, spanGaps: false, points: { show: true, size: 6, fill: good, stroke: good } },
        { stroke: warm, width: 1.5, dash: [5, 3], scale: 'loss', spanGaps: true },
      ],
    }, [[0], [null], [null], [null]], this.trainingBox);
    this.#deviation = new uPlot({
      ...common,
      width: width(this.deviationBox),
      scales: { x: { time: false, range: (_, min, max) => [min ?? 0, Math.max(max ?? 0, (min ?? 0) + 20)] }, y: { distr: 3, range: (_, min, max) => decades(min, Math.min(max, MOST_GROWTH * (this.#state.deviationAtStart ?? Infinity))) } },
      axes: [
        { ...axis, size: 24 },
        { ...axis, size: 42, splits: (_, __, min, max) => everyFewDecades(min, max), filter: (_, splits) => splits, values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : powerOfTen(Math.round(Math.log10(tick))))) },
      ],
      series: [
        {},
        { stroke: muted, width: 2, dash: [4, 4], spanGaps: true, points: { show: false } },
        { stroke: accent, width: 2.5, spanGaps: true, points: { show: false } },
      ],
    }, [[0], [null], [null]], this.deviationBox);
    for (const plot of [this.#training, this.#deviation]) plot.root.setAttribute('aria-hidden', 'true');
    this.#update();
  }

  #resize(): void {
    for (const [plot, box] of [[this.#training, this.trainingBox], [this.#deviation, this.deviationBox]] as const) {
      if (plot && box.clientWidth > 0 && (Math.abs(box.clientWidth - plot.width) > 1 || Math.abs(height(box) - plot.height) > 1)) plot.setSize({ width: box.clientWidth, height: height(box) });
    }
  }

  #update(): void {
    const { samples } = this.#state;
    if (samples.length > 0) {
      this.#training?.setData([
        samples.map((sample) => sample.step),
        smoothed(samples),
        samples.map((sample) => sample.validation),
        samples.map((sample) => sample.loss),
      ]);
    } else {
      this.#training?.setData([[0, 20], [null, null], [null, null], [null, null]]);
    }
    this.#deviation?.setData(this.#deviationData());
    this.deviationBox.parentElement?.classList.toggle('waiting', this.#state.clusteredAt === null);
    if (performance.now() - this.#describedAt > 2000 || samples.length === 0) this.#describe();
  }

  #deviationData(): uPlot.AlignedData {
    const { samples, forecast, clusteredAt, deviationAtStart } = this.#state;
    if (clusteredAt === null) return [[0, 20], [null, null], [null, null]];
    const measured = [
      ...(deviationAtStart === null ? [] : [{ step: clusteredAt, deviation: deviationAtStart }]),
      ...samples.filter((sample) => sample.deviation !== null && sample.step > clusteredAt),
    ];
    const start = deviationAtStart;
    const line = start === null || !forecast ? [] : forecast.curve.map(([step, log]): [number, number] => [clusteredAt + step, Math.max(FLOOR, start * Math.exp(2 * log))]);
    const joined = uPlot.join([
      [line.map(([step]) => step), line.map(([, value]) => value)],
      [measured.map(({ step }) => step), measured.map(({ deviation }) => Math.max(FLOOR, deviation ?? FLOOR))],
    ]);
    return joined[0].length > 0 ? joined : [[0, 20], [null, null], [null, null]];
  }

  /** Lines where C-SGD began and where the cut was. */
  #marks(plot: uPlot): void {
    const { clusteredAt, cutAt } = this.#state;
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio || 1;
    for (const [step, name] of [[clusteredAt, 'pull'], [cutAt, 'cut']] as const) {
      if (step === null) continue;
      const x = Math.round(plot.valToPos(step, 'x', true)) + 0.5;
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.save();
      ctx.strokeStyle = theme().muted;
      ctx.lineWidth = ratio;
      ctx.setLineDash([2 * ratio, 2 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.font = `${10 * ratio}px ${theme().font}`;
      ctx.fillStyle = theme().muted;
      const right = x > bbox.left + bbox.width - 30 * ratio;
      ctx.textAlign = right ? 'right' : 'left';
      ctx.fillText(name, x + (right ? -4 : 4) * ratio, plot === this.#training ? bbox.top + 10 * ratio : bbox.top + bbox.height - 5 * ratio);
      ctx.restore();
    }
  }

  #describe(): void {
    this.#describedAt = performance.now();
    const last = this.#state.samples.at(-1);
    const validation = this.#state.samples.findLast((sample) => sample.validation !== null)?.validation;
    this.trainingNote.textContent = last
      ? `Step ${last.step}: loss ${last.loss.toFixed(3)}, accuracy on training images ${percent(last.accuracy)}${validation !== undefined && validation !== null ? `, on up to 256 test images ${percent(validation)}` : ''}.`
      : 'No step yet.';
    const deviation = this.#state.samples.findLast((sample) => sample.deviation !== null);
    const end = this.#state.forecast?.sentence ?? '';
    this.deviationNote.textContent = this.#state.clusteredAt !== null && deviation
      ? `Deviation ${scientific(deviation.deviation ?? 0)} at step ${deviation.step}. ${end}`
      : 'The deviation is measured once filters are clustered.';
  }
}

const height = (box: HTMLElement) => Math.max(LOWEST, box.clientHeight);

/** A moving mean of the accuracy, weighted by place: batches alone are too noisy to read. */
function smoothed(samples: Sample[]): number[] {
  let mean = samples[0]?.accuracy ?? 0;
  return samples.map((sample) => (mean += 0.3 * (sample.accuracy - mean)));
}

function decades(min: number, max: number): [number, number] {
  if (!(min > 0) || !(max > 0)) return [1e-14, 10];
  return [10 ** Math.floor(Math.log10(min) - 0.2), 10 ** Math.ceil(Math.log10(max) + 0.2)];
}

function everyFewDecades(min: number, max: number): number[] {
  const [low, high] = [Math.ceil(Math.log10(min) - 1e-9), Math.floor(Math.log10(max) + 1e-9)];
  const step = Math.max(1, Math.ceil((high - low) / 6));
  const ticks: number[] = [];
  for (let exponent = high; exponent >= low; exponent -= step) ticks.unshift(10 ** exponent);
  return ticks;
}
