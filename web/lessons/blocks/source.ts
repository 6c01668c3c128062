/** Shows a file of the repository, or a part of it, and the whole of it on demand. */

import { button, make } from '../shared/dom.ts';
import { listing } from '../shared/editor.ts';
import { excerpt, file } from '../shared/files.ts';

export default async function source(block: HTMLElement): Promise<void> {
  const path = block.dataset.file!;
  const text = await file(path);
  const item = block.dataset.item ?? 'all';
  let whole = item === 'all';
  const holder = make('div');
  const show = () => {
    const part = excerpt(text, whole ? 'all' : item);
    holder.replaceChildren(listing(`${path}, from line ${part.line}`, part.text, part.line));
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
  block.append(head, holder);
}
