/** Colours for WGSL and Rust: enough of their grammar to tell comments, words and numbers apart. */

import { make } from './dom.ts';

const KEYWORDS = new Set(
  ('fn let var const struct if else for while loop break continue return switch case default override true false ' +
    'pub static impl use mod match in mut ref self Self where trait enum type as move unsafe async await crate dyn').split(' '),
);
const TYPES = /^(u32|i32|f32|f64|u8|u64|usize|isize|bool|str|vec[234]|mat\dx\d|array|atomic|ptr|uniform|storage|read|read_write|workgroup|private|function|Vec|String|Option|Result|[A-Z]\w*)$/;
const TOKEN = /(\/\/[^\n]*|\/\*[^]*?\*\/)|(@\w+|#\[[^\]]*\])|("(?:[^"\\]|\\.)*")|(\b\d[\w.]*)|([A-Za-z_]\w*)|([^]?)/g;

/** `source` as spans. */
export function highlighted(source: string): DocumentFragment {
  const result = document.createDocumentFragment();
  let plain = '';
  const span = (kind: string, text: string) => {
    if (plain) result.append(plain);
    plain = '';
    result.append(make('span', { class: kind }, text));
  };
  for (const [text, comment, attribute, quoted, number, word] of source.matchAll(TOKEN)) {
    if (comment) span('c', text);
    else if (attribute) span('a', text);
    else if (quoted) span('s', text);
    else if (number) span('n', text);
    else if (word && KEYWORDS.has(word)) span('k', text);
    else if (word && TYPES.test(word)) span('t', text);
    else plain += text;
  }
  if (plain) result.append(plain);
  return result;
}
