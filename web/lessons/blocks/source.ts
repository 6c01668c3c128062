/** A file of the repository in the text. */

import { sourceOf } from '../shared/source.ts';

export default async function source(block: HTMLElement): Promise<void> {
  block.append(...(await sourceOf(block.dataset.file!, block.dataset.item ?? 'all')));
}
