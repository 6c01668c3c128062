/** A shader that the reader mends: edited, checked by naga, run on the GPU and compared with the twin. */

import { EXERCISES, startOf } from '../frame/exercises.ts';
import { button, fresh, make, table } from '../shared/dom.ts';
import { Editor } from '../shared/editor.ts';
import { shader as read, twinOf } from '../shared/files.ts';
import { adapterOf, judge, type Outcome } from '../shared/kernel.ts';
import { sourceOf } from '../shared/source.ts';
import { store, stored } from '../shared/state.ts';

export default async function exercise(block: HTMLElement): Promise<void> {
  const id = block.dataset.id ?? '';
  const known = EXERCISES[id];
  const kernel = known?.kernel ?? block.dataset.kernel!;
  const shader = known?.shader ?? block.dataset.shader!;
  const solution = await read(shader);
  const start = known ? startOf(known, solution) : solution;
  const key = known ? id : `${kernel}/${shader}`;
  const title = known?.title ?? `shaders/${shader}.wgsl`;

  const kept = stored(key);
  const editor = new Editor(`${title}: WGSL`, kept ?? start);
  editor.onchange = (text) => {
    store(key, text === start ? null : text);
    block.dataset.outcome = '';
  };
  const status = make('div', { class: 'status', role: 'status' });
  const say = (text: string) => status.replaceChildren(make('p', {}, text));

  const gridId = fresh('grid');
  const grid = make('input', { id: gridId, type: 'number', min: '1', step: '1', placeholder: 'as the library', inputmode: 'numeric' });
  const workgroups = () => (grid.value === '' ? null : Math.max(1, Math.round(Number(grid.value)) || 1));

  const run = button(
    known ? 'Run and check' : 'Run',
    async () => {
      block.dataset.outcome = '';
      try {
        const outcome = await judge(kernel, shader, editor.text, workgroups(), say);
        tell(outcome, status, editor, title, shader);
        block.dataset.outcome = outcome.kind;
      } catch (error) {
        say((error as Error).message);
        block.dataset.outcome = 'failed';
      }
    },
    'primary',
  );
  const put = (text: string) => {
    editor.text = text;
    editor.onchange(text);
    status.replaceChildren();
  };
  const buttons = make('div', { class: 'buttons' }, run, button('Reset', () => {
    grid.value = '';
    put(start);
  }));
  const hints = make('ol', { class: 'hints' });
  // A list cannot be a live region itself.
  const hinted = make('div', { role: 'status' });
  if (known) {
    const hint = make('button', { type: 'button' }, 'Hint');
    hint.onclick = () => {
      hints.append(make('li', {}, known.hints[hints.children.length]!));
      hinted.replaceChildren(hints);
      hint.disabled = hints.children.length === known.hints.length;
    };
    buttons.append(hint, button('Show the solution', () => put(solution)));
  }
  const more = make('details', { class: 'grid-choice' },
    make('summary', {}, 'Grid'),
    make('p', {}, make('label', { for: gridId }, 'Workgroups of the dispatch '), grid,
      ' Empty: as many as the library takes for each case.'));
  const { path, item } = twinOf(solution);
  const twin = make('details', { class: 'twin' },
    make('summary', {}, 'The twin ', make('code', {}, item), ': what this shader must compute, in Rust'),
    ...(await sourceOf(path, item, `: ${title}`)));
  // Where the lesson shows it already the reader need not scroll past it again.
  twin.open = !document.querySelector(`[data-block="source"][data-file="${path}"][data-item="${item}"]`);
  const heading = make('h3', {}, known ? `Exercise: ${title}` : title);
  block.prepend(heading);
  block.append(buttons, hinted, editor.root, status, more, twin);
  editor.reveal('@compute');
  if (kept !== null) say('This is your text of last time; Reset brings the original back.');
  if (!(await adapterOf())) {
    say('There is no GPU to run this on: naga checks what you write. Open the page in a browser with WebGPU to run it.');
  }
}

function tell(outcome: Outcome, status: HTMLElement, editor: Editor, title: string, shader: string): void {
  const verdict = (kind: string, text: string) => make('p', { class: `verdict ${kind}` }, text);
  switch (outcome.kind) {
    case 'passed':
      status.replaceChildren(
        verdict('good', `Right. ${outcome.cases} of ${outcome.cases} cases agree with the twin (largest difference ${outcome.worst === 0 ? 'none' : `${outcome.worst.toExponential(1)} of the largest number`}).`),
      );
      break;
    case 'syntax': {
      editor.mark(outcome.line, outcome.column);
      const where = outcome.line ? `Line ${outcome.line}, column ${outcome.column}: ` : '';
      const notes = outcome.notes.map((note) => make('p', {}, note));
      const marked = outcome.marked ? [make('p', {}, 'At ', make('code', {}, outcome.marked))] : [];
      status.replaceChildren(verdict('bad', `naga: ${where}${outcome.message}`), ...marked, ...notes);
      break;
    }
    case 'wrong': {
      const { judged, passed } = outcome;
      const first = judged.first;
      const before = passed === 0 ? 'The first case differs' : `${passed} ${passed === 1 ? 'case is' : 'cases are'} right, then one differs`;
      const rows = first
        ? [['buffer', first.buffer], ['number', `${first.index} of ${first.of}`], ['place', first.place ?? '–'], ['yours', first.found], ['the twin’s', first.expected]]
        : [];
      const sizes = Object.entries(judged.params).map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`).join(', ');
      status.replaceChildren(
        verdict('bad', `Not yet. ${before}: ${judged.case}.`),
        table('The first number that differs', ['what', 'value'], rows, `${title}: the first number that differs`),
        make('p', { class: 'sizes' }, `Sizes of this case: ${sizes}`),
      );
      break;
    }
    case 'stopped':
      status.replaceChildren(
        verdict('bad', `A loop went round more than ${outcome.rounds.toLocaleString('en')} times in the case “${outcome.case}” and was ended. Look for a loop whose condition never becomes false.`),
      );
      break;
    case 'refused':
      status.replaceChildren(verdict('bad', outcome.message));
      break;
    case 'no-gpu':
      status.replaceChildren(
        verdict('plain', `naga finds nothing wrong with ${shader}. It was not run: there is no GPU here, or the page is set to the CPU. The twin below shows what it should compute.`),
      );
  }
}
