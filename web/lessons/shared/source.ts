/** A file of the repository to read, or a part of it, and the whole of it on demand. */

import { button, make } from './dom.ts';
import { listing } from './editor.ts';
import { excerpt, file } from './files.ts';

/** The nodes that show `item` of the file `path`; `all` is the whole of it. `why` names them where a page shows it twice. */
export async function sourceOf(path: string, item: string, why = ''): Promise<HTMLElement[]> {
  const text = await file(path);
  let whole = item === 'all';
  const holder = make('div');
  const show = () => {
    const part = excerpt(text, whole ? 'all' : item);
    holder.replaceChildren(listing(`${path}, from line ${part.line}${item === 'all' ? '' : `, for ${item}`}${why}`, part.text, part.line));
  };
  show();
  const head = make('p', { class: 'path-name' }, make('code', {}, path));
  if (item !== 'all') {
    const more = button('Whole file', () => {
      whole = !whole;
      more.textContent = whole ? 'Only this part' : 'Whole file';
      show();
    });
    head.append(more);
  }
  return [head, holder];
}
