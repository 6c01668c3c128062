/** What the networks answer to one image, beside each other. */

import type { Answer } from '../client/types';
import { byId, element, make, setText } from './dom';
import { milliseconds, percent, scientific } from './format';
import { tuned } from './pull';
import type { State } from './state';

type Shown = 'wide' | 'slim' | 'both';

export class AnswersPanel {
  #answers: Answer[] = [];
  #classes: string[] = [];
  #label: number | null = null;
  #tuned = false;

  constructor() {
    for (const input of document.querySelectorAll<HTMLInputElement>('input[name="answering"]')) {
      input.addEventListener('change', () => this.#render());
    }
  }

  show(answers: Answer[], state: State): void {
    this.#answers = answers;
    this.#classes = state.data?.classes ?? [];
    this.#label = state.picked?.label ?? null;
    this.#tuned = tuned(state);
    this.#render();
  }

  #render(): void {
    const find = (network: string) => this.#answers.find((answer) => answer.network === network);
    const [wide, slim, l1] = [find('wide') ?? this.#answers[0], find('slim'), find('l1')];
    const chosen = document.querySelector<HTMLInputElement>('input[name="answering"]:checked');
    const value = (chosen?.value ?? 'both') as Shown;
    const pair = wide && slim && wide !== slim;
    byId('answering', HTMLFieldSetElement).disabled = !pair;
    const columns: [string, string, Answer][] = [];
    if (wide && (value !== 'slim' || !pair)) columns.push(['wide', pair ? 'Wide' : 'Network', wide]);
    if (slim && pair && value !== 'wide') columns.push(['slim', this.#tuned ? 'Slim, trained on' : 'Slim', slim]);
    if (l1 && value === 'both') columns.push(['l1', 'L1 cut', l1]);
    element('answers-head').replaceChildren(make('tr', {}, make('td', {}), ...columns.map(([kind, title, answer]) =>
      make('th', { scope: 'col', class: kind }, title, make('small', {}, milliseconds(answer.milliseconds))))));
    const count = columns[0]?.[2].probabilities.length ?? 0;
    element('answers-body').replaceChildren(...Array.from({ length: Math.min(count, 20) }, (_, index) => {
      const name = this.#classes[index] ?? `class ${index}`;
      const cells = columns.map(([kind, , answer]) => {
        const probability = answer.probabilities[index] ?? 0;
        const bar = make('span', { class: `bar ${kind}` });
        bar.style.width = `${100 * probability}%`;
        const top = probability === Math.max(...answer.probabilities);
        return make('td', top ? { class: 'best' } : {}, make('span', { class: 'track' }, bar), make('span', { class: 'value' }, percent(probability, 1)));
      });
      return make('tr', index === this.#label ? { class: 'truth' } : {}, make('th', { scope: 'row' }, name), ...cells);
    }));
    setText(element('answers-note'), this.#note(wide, pair ? slim : undefined));
  }

  #note(wide: Answer | undefined, slim: Answer | undefined): string {
    if (!wide) return 'Train first: then the network answers here.';
    const best = (answer: Answer) => this.#classes[answer.logits.indexOf(Math.max(...answer.logits))] ?? 'an unknown class';
    if (!slim) return `It says ${best(wide)}.`;
    const difference = Math.max(...wide.logits.map((value, i) => Math.abs(value - slim.logits[i]!)));
    return best(wide) === best(slim)
      ? `Both say ${best(wide)}; largest difference of a logit ${scientific(difference)}.`
      : `Wide says ${best(wide)}, slim says ${best(slim)}; largest difference of a logit ${scientific(difference)}.`;
  }
}
