/** Build time: a lesson's file holds its text alone; this puts head, navigation and formulas around and into it. */

import { readFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import type { Plugin } from 'vite';
import { LESSONS } from './course.ts';
import { withFormulas } from './mathml.ts';
import { answers, times } from './teacher.ts';

const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'";

const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='7' fill='%231c5fb8'/%3E%3Cg fill='%23fff'%3E%3Ccircle cx='16' cy='16' r='4.5'/%3E%3Ccircle cx='7' cy='10' r='2.5' opacity='.75'/%3E%3Ccircle cx='25' cy='10' r='2.5' opacity='.75'/%3E%3Ccircle cx='16' cy='27' r='2.5' opacity='.75'/%3E%3C/g%3E%3C/svg%3E";

const path = () => `<ol class="path">${LESSONS.map((lesson) => `
  <li><a href="./${lesson.file}.html">${lesson.title}</a> <span class="minutes">${lesson.minutes} minutes</span><br>${lesson.about} <span class="needs">Assumes: ${lesson.needs}</span></li>`).join('')}
</ol>`;

function around(index: number): string {
  const link = (at: number, word: string) => {
    const lesson = LESSONS[at];
    return lesson ? `<a href="./${lesson.file}.html">${word} ${at + 1}. ${lesson.title}</a>` : '';
  };
  const before = link(index - 1, '←') || '<a href="./index.html">← All lessons</a>';
  const after = link(index + 1, 'Next:') || '<a href="../index.html">On to the demo</a>';
  return `<nav class="around" aria-label="Next and previous lesson">${before}<span></span>${after}</nav>`;
}

/** The whole page of the lesson file `name`, whose text is `body`. */
export function page(name: string, body: string): string {
  const index = LESSONS.findIndex((lesson) => lesson.file === name);
  const lesson = LESSONS[index];
  const title = lesson ? `${index + 1}. ${lesson.title}` : name === 'index' ? 'Lessons' : 'For teachers';
  const kind = lesson ? `Lesson ${index + 1} of ${LESSONS.length}, ${lesson.minutes} minutes` : 'Centripetal';
  const heading = `<header class="opening"><p class="kind">${kind}</p><h1>${lesson?.title ?? title}</h1>${
    lesson ? `<p class="about">${lesson.about}</p><p class="needs">Assumes: ${lesson.needs}</p>` : ''}</header>`;
  const parts: Record<string, () => string> = {
    path,
    times,
    answers: () => answers((file) => readFileSync(resolve(import.meta.dirname, '..', `${file}.html`), 'utf8')),
  };
  const text = withFormulas(body.replaceAll(/<!-- (\w+) -->/g, (_, part: string) => parts[part]!()));
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta http-equiv="Content-Security-Policy" content="${POLICY}">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>${title} · Centripetal</title>
    <link rel="icon" href="${ICON}">
    <script type="module" src="./main.ts"></script>
  </head>
  <body>
    <a class="skip" href="#text">Skip to the text</a>
    <header class="top">
      <nav aria-label="Lessons"><a class="home" href="./index.html">Centripetal lessons</a><a href="./teacher.html">For teachers</a><a href="../index.html">Demo</a></nav>
      <div class="device"><label>Run on <select id="device">
        <option value="auto">GPU if there is one</option><option value="gpu">GPU</option><option value="cpu">CPU (twins)</option>
      </select></label> <span id="device-name" role="status"></span></div>
    </header>
    <main id="text">
      ${heading}
      <p id="no-gpu" class="notice" hidden></p>
      ${text}
      ${lesson ? around(index) : ''}
    </main>
    <footer><p>Every program shown here is the file that Centripetal runs, taken from its repository when this page was built.
    Nothing you do leaves your machine.</p></footer>
  </body>
</html>
`;
}

export function frame(): Plugin {
  return {
    name: 'lesson-frame',
    transformIndexHtml: {
      order: 'pre',
      handler: (body, context) => page(basename(context.filename, '.html'), body),
    },
  };
}
