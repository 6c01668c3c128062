/** A text field for code: line numbers, colours behind the text, a mark at a line. Tab leaves it, as everywhere. */

import { highlighted } from './highlight.ts';
import { make } from './dom.ts';

export class Editor {
  readonly root: HTMLElement;
  private readonly field: HTMLTextAreaElement;
  private readonly colours = make('pre', { class: 'colours', 'aria-hidden': 'true' });
  private readonly numbers = make('pre', { class: 'numbers', 'aria-hidden': 'true' });
  private marked = 0;
  onchange: (text: string) => void = () => {};

  constructor(label: string, text: string) {
    this.field = make('textarea', {
      'aria-label': label, spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off', wrap: 'off',
    });
    this.root = make('div', { class: 'editor' }, this.numbers, make('div', { class: 'paper' }, this.colours, this.field));
    this.text = text;
    this.field.oninput = () => {
      this.mark(0);
      this.draw();
      this.onchange(this.field.value);
    };
    this.field.onkeydown = (event) => {
      if (event.key !== 'Enter' || event.ctrlKey || event.metaKey) return;
      // The next line begins as deep as this one.
      const before = this.field.value.slice(0, this.field.selectionStart);
      const indent = /[ \t]*/.exec(before.slice(before.lastIndexOf('\n') + 1))![0];
      const deeper = before.endsWith('{') ? '    ' : '';
      event.preventDefault();
      this.field.setRangeText(`\n${indent}${deeper}`, this.field.selectionStart, this.field.selectionEnd, 'end');
      this.field.dispatchEvent(new Event('input'));
    };
  }

  get text(): string {
    return this.field.value;
  }

  set text(text: string) {
    this.field.value = text;
    this.marked = 0;
    this.draw();
  }

  /** Marks a line, and puts the cursor to it if asked to; 0 marks none. */
  mark(line: number, column = 0): void {
    if (line === this.marked) return;
    this.marked = line;
    this.draw();
    if (line === 0) return;
    const at = this.field.value.split('\n').slice(0, line - 1).join('\n').length + (line > 1 ? 1 : 0) + Math.max(0, column - 1);
    this.field.setSelectionRange(at, at);
    const row = this.numbers.children[line - 1];
    if (row instanceof HTMLElement) this.root.scrollTop = Math.max(0, row.offsetTop - 60);
  }

  /** Scrolls to the first line that begins with `start`. */
  reveal(start: string): void {
    const line = this.field.value.split('\n').findIndex((text) => text.startsWith(start));
    const row = this.numbers.children[line];
    if (row instanceof HTMLElement) this.root.scrollTop = Math.max(0, row.offsetTop - 10);
  }

  private draw(): void {
    const lines = this.field.value.split('\n');
    this.field.rows = lines.length;
    const longest = lines.reduce((most, line) => Math.max(most, line.length), 0);
    this.field.cols = Math.max(40, longest + 2);
    this.colours.replaceChildren(highlighted(`${this.field.value}\n`));
    this.numbers.replaceChildren(
      ...lines.map((_, i) => make('span', i + 1 === this.marked ? { class: 'bad' } : {}, `${i + 1}\n`)),
    );
  }
}

/** Code to read: a file or a part of it, with its own line numbers. */
export function listing(label: string, text: string, first: number): HTMLElement {
  const numbers = make('pre', { class: 'numbers', 'aria-hidden': 'true' });
  numbers.append(text.split('\n').map((_, i) => `${first + i}\n`).join(''));
  const code = make('pre', { class: 'code' }, highlighted(text));
  return make('div', { class: 'editor listing', tabindex: '0', role: 'region', 'aria-label': label }, numbers, make('div', { class: 'paper' }, code));
}
