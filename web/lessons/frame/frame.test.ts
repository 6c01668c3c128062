import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { excerpt, file, twinOf } from '../shared/files.ts';
import { LESSONS } from './course.ts';
import { EXERCISES, startOf } from './exercises.ts';
import { page } from './frame.ts';
import { mathml, withFormulas } from './mathml.ts';

const folder = resolve(import.meta.dirname, '..');
const root = resolve(folder, '../..');
const read = (path: string) => readFileSync(resolve(root, path), 'utf8');

describe('formulas', () => {
  test('scripts, fractions and sums', () => {
    expect(mathml('x_i^2', 'inline')).toBe('<math display="inline"><mrow><msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup></mrow></math>');
    expect(mathml('\\frac{a}{12}', 'inline')).toContain('<mfrac><mrow><mi>a</mi></mrow><mrow><mn>12</mn></mrow></mfrac>');
    expect(mathml('\\sum_{k} y_k', 'block')).toContain('<munder><mo>∑</mo><mrow><mi>k</mi></mrow></munder>');
  });

  test('what is not known is an error of the build', () => {
    expect(() => mathml('\\nothing', 'inline')).toThrow('\\nothing is not known');
    expect(() => mathml('{a', 'inline')).toThrow('} is missing');
  });

  test('text around them stays', () => {
    expect(withFormulas('a \\( b \\) c')).toMatch(/^a <math.*<\/math> c$/);
  });
});

describe('lessons', () => {
  const files = readdirSync(folder).filter((name) => name.endsWith('.html')).map((name) => name.replace('.html', ''));

  test('every lesson has a file and every file is known', () => {
    expect(files.sort()).toEqual([...LESSONS.map(({ file }) => file), 'index', 'teacher'].sort());
  });

  test.each(files)('%s becomes a page whose formulas are all written out', (name) => {
    const made = page(name, readFileSync(resolve(folder, `${name}.html`), 'utf8'));
    expect(made).not.toMatch(/\\[([\])]/);
    expect(made).toContain('Content-Security-Policy');
    expect([...made.matchAll(/<h1>/g)]).toHaveLength(1);
    expect(made).not.toMatch(/ style="| onclick=/);
  });

  test('every exercise is in a lesson, and every one in a lesson is known', () => {
    const text = files.map((name) => readFileSync(resolve(folder, `${name}.html`), 'utf8')).join('');
    const used = [...text.matchAll(/data-id="([\w-]+)"/g)].map(([, id]) => id!);
    expect(used.sort()).toEqual(Object.keys(EXERCISES).sort());
  });

  test('every file and item that a lesson shows is there', () => {
    let shown = 0;
    for (const name of files) {
      const text = readFileSync(resolve(folder, `${name}.html`), 'utf8');
      for (const [, path, item] of text.matchAll(/data-file="([^"]+)"(?: data-item="(\w+)")?/g)) {
        const { text: part } = excerpt(read(path!), item ?? 'all');
        expect(part.length, `${name}: ${path} ${item}`).toBeGreaterThan(60);
        const braces = (brace: string) => part.split(brace).length;
        expect(braces('{'), `${name}: ${path} ${item} is whole`).toBe(braces('}'));
        shown++;
      }
    }
    expect(shown).toBeGreaterThan(15);
  });
});

describe('exercises', () => {
  test.each(Object.entries(EXERCISES))('%s starts from its file with something taken away', (_, exercise) => {
    const file = read(`shaders/${exercise.shader}.wgsl`);
    expect(startOf(exercise, file)).not.toBe(file);
    expect(exercise.hints.length).toBeGreaterThan(0);
    expect(exercise.answer.length).toBeGreaterThan(10);
  });

  test.each(Object.entries(EXERCISES))('the twin of %s is shown from its file', async (_, exercise) => {
    const { path, item } = twinOf(read(`shaders/${exercise.shader}.wgsl`));
    expect(item).toBe(exercise.kernel);
    expect(excerpt(await file(path), item).text).toContain(`fn ${item}(args: Args<'_>) {`);
  });

  test('a change that is no longer in the file is an error', () => {
    const exercise = { ...EXERCISES.pooling!, changes: [['not there', 'x']] as [string, string][] };
    expect(() => startOf(exercise, 'fn main() {}')).toThrow('is not there once');
  });
});

test('an excerpt ends where its item does, with the lines that it has in the file', () => {
  const source = '//! Head.\n//! More.\n\n/// Doc.\n#[inline]\npub fn one() {\n    two();\n}\n\nimpl X {\n    fn inner() {\n        1\n    }\n}\n';
  expect(excerpt(source, 'head')).toEqual({ text: '//! Head.\n//! More.', line: 1 });
  expect(excerpt(source, 'one')).toEqual({ text: '/// Doc.\n#[inline]\npub fn one() {\n    two();\n}', line: 4 });
  const long = 'fn long(\n    a: u32,\n) -> u32 {\n    a\n}\n';
  expect(excerpt(long, 'long').text).toBe(long.trimEnd());
  expect(excerpt(source, 'inner')).toEqual({ text: 'fn inner() {\n    1\n}', line: 11 });
});
