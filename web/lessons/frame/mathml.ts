/**
 * A little of TeX's notation as MathML, at build time: `\( x_{i}^2 \)` in a line, `\[ ... \]` as a line of its own.
 *
 * Known: sub- and superscripts, braces, \frac, \sqrt, \hat, \bar, \text, \sum, Greek letters, the relations below.
 */

const GREEK: Record<string, string> = {
  alpha: 'α', beta: 'β', gamma: 'γ', delta: 'δ', epsilon: 'ε', eta: 'η', lambda: 'λ', mu: 'μ', sigma: 'σ', tau: 'τ', chi: 'χ',
  Delta: 'Δ', Sigma: 'Σ',
};
const OPERATORS: Record<string, string> = {
  cdot: '·', times: '×', le: '≤', ge: '≥', ne: '≠', approx: '≈', in: '∈', partial: '∂', to: '→', gets: '←', lVert: '‖', rVert: '‖',
  sum: '∑', pm: '±', ldots: '…', infty: '∞', odot: '⊙',
};
const FUNCTIONS = new Set(['max', 'min', 'ln', 'exp', 'log', 'mean', 'var']);

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

class Reader {
  private at = 0;
  constructor(private readonly source: string) {}

  /** A row up to `end`, or to the end of the source. */
  row(end?: string): string {
    let row = '';
    for (;;) {
      this.space();
      if (this.at >= this.source.length) {
        if (end) throw new Error(`formula "${this.source}": ${end} is missing`);
        return row;
      }
      if (this.source[this.at] === end) {
        this.at++;
        return row;
      }
      row += this.scripted();
    }
  }

  private space(): void {
    while (/\s/.test(this.source[this.at] ?? '')) this.at++;
  }

  private scripted(): string {
    const big = this.source.startsWith('\\sum', this.at);
    const base = this.atom();
    let [below, above] = ['', ''];
    for (;;) {
      this.space();
      const mark = this.source[this.at];
      if (mark !== '_' && mark !== '^') break;
      this.at++;
      const script = this.argument();
      if (mark === '_') below = script;
      else above = script;
    }
    if (!below && !above) return base;
    const [one, two, both] = big ? ['munder', 'mover', 'munderover'] : ['msub', 'msup', 'msubsup'];
    if (below && above) return `<${both}>${base}${below}${above}</${both}>`;
    return below ? `<${one}>${base}${below}</${one}>` : `<${two}>${base}${above}</${two}>`;
  }

  private argument(): string {
    this.space();
    return this.atom();
  }

  private atom(): string {
    this.space();
    const rest = this.source.slice(this.at);
    const number = /^\d+(\.\d+)?/.exec(rest);
    if (number) {
      this.at += number[0].length;
      return `<mn>${number[0]}</mn>`;
    }
    const command = /^\\([A-Za-z]+|[,;])/.exec(rest);
    if (command) {
      this.at += command[0].length;
      return this.command(command[1]!);
    }
    const letter = rest[0]!;
    this.at++;
    if (letter === '{') return `<mrow>${this.row('}')}</mrow>`;
    if (/[A-Za-z]/.test(letter)) return `<mi>${letter}</mi>`;
    if (letter === "'") return '<mo>′</mo>';
    if (letter === '-') return '<mo>−</mo>';
    if (letter === '|') return '<mo stretchy="false">|</mo>';
    return `<mo${/[()[\]]/.test(letter) ? ' stretchy="false"' : ''}>${escaped(letter)}</mo>`;
  }

  private command(name: string): string {
    if (name === ',' || name === ';') return `<mspace width="${name === ',' ? '0.17em' : '0.6em'}"/>`;
    if (name === 'frac') return `<mfrac>${this.argument()}${this.argument()}</mfrac>`;
    if (name === 'sqrt') return `<msqrt>${this.argument()}</msqrt>`;
    if (name === 'hat' || name === 'bar') {
      return `<mover accent="true">${this.argument()}<mo>${name === 'hat' ? '^' : '¯'}</mo></mover>`;
    }
    if (name === 'text') {
      const text = /^\{([^}]*)\}/.exec(this.source.slice(this.at));
      if (!text) throw new Error(`formula "${this.source}": \\text needs braces`);
      this.at += text[0].length;
      return `<mtext>${escaped(text[1]!)}</mtext>`;
    }
    if (FUNCTIONS.has(name)) return `<mi>${name}</mi>`;
    if (GREEK[name]) return `<mi>${GREEK[name]}</mi>`;
    const operator = OPERATORS[name];
    if (!operator) throw new Error(`formula "${this.source}": \\${name} is not known`);
    if (name === 'infty') return `<mi>${operator}</mi>`;
    return name === 'lVert' || name === 'rVert' ? `<mo stretchy="false">${operator}</mo>` : `<mo>${operator}</mo>`;
  }
}

/** One formula as MathML. */
export function mathml(source: string, display: 'inline' | 'block'): string {
  return `<math display="${display}"><mrow>${new Reader(source).row()}</mrow></math>`;
}

/** `text` with its formulas written out. */
export function withFormulas(text: string): string {
  return text
    .replaceAll(/\\\[([^]*?)\\\]/g, (_, source: string) => `<div class="formula" tabindex="0" role="group" aria-label="Formula">${mathml(source, 'block')}</div>`)
    .replaceAll(/\\\(([^]*?)\\\)/g, (_, source: string) => mathml(source, 'inline'));
}
