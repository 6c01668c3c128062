/** What the teacher's page says of the lessons themselves, from the same tables as the lessons. */

import { LESSONS } from './course.ts';
import { EXERCISES } from './exercises.ts';

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

/** Order, times and assumptions. */
export function times(): string {
  const rows = LESSONS.map(({ file, title, minutes, needs }, i) =>
    `<tr><th scope="row">${i + 1}. <a href="./${file}.html">${title}</a></th><td>${minutes}</td><td>${needs}</td></tr>`).join('');
  const total = LESSONS.reduce((sum, { minutes }) => sum + minutes, 0);
  return `<div class="scroll" tabindex="0" role="region" aria-label="Order and times"><table class="wordy"><caption>Minutes for reading and trying; exercises included for a reader who has programmed before. Together ${total}.</caption><thead><tr><th scope="col">lesson</th><th scope="col">minutes</th><th scope="col">assumes</th></tr></thead><tbody>${rows}</tbody></table></div>`;
}

/** Every exercise with what is wrong in it and the answer. `read` gives the text of a lesson. */
export function answers(read: (file: string) => string): string {
  return LESSONS.map(({ file, title }, i) => {
    const ids = [...read(file).matchAll(/data-id="([\w-]+)"/g)].map(([, id]) => id!);
    const items = ids.map((id) => {
      const { title: name, shader, answer, changes } = EXERCISES[id]!;
      const lines = changes.map(([line, start]) => `${start.trim() ? `<p>given</p><pre tabindex="0"><code>${escaped(start.trim())}</code></pre>` : '<p>nothing is given for</p>'}<p>in the file</p><pre tabindex="0"><code>${escaped(line.trim())}</code></pre>`).join('');
      return `<details><summary>${name} <code>${shader}.wgsl</code></summary><p>${escaped(answer)}</p>${lines}</details>`;
    }).join('');
    return `<h3>${i + 1}. ${title}</h3>${items}`;
  }).join('');
}
