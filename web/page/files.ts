/** Files in and out: data sets and checkpoints, by button or by drop. */

import { byId, element } from './dom';

export interface Dropped { name: string; bytes: ArrayBuffer }
export interface FileActions {
  data(files: File[] | Dropped[]): void;
  checkpoint(file: File): void;
  refuse(sentence: string): void;
}

/** More than this would fill the tab's memory before anything can be said about it. */
const MOST_BYTES = 400 * 1024 * 1024;
const MOST_FILES = 60_000;

/** Why these files are not even opened, as a sentence, or null. */
export function refusal(files: { name: string; size: number }[]): string | null {
  const total = files.reduce((sum, file) => sum + file.size, 0);
  if (files.length === 0) return 'Nothing was dropped that can be read. Drop IDX, CIFAR or image files, or a .safetensors checkpoint.';
  if (files.length > MOST_FILES) return `These are more than ${MOST_FILES.toLocaleString('en-US')} files. Drop a smaller part of them.`;
  if (total > MOST_BYTES) {
    const size = total >= 2 ** 30 ? `${(total / 2 ** 30).toFixed(1)} GiB` : `${Math.round(total / 2 ** 20)} MiB`;
    return `${files.length === 1 ? files[0]!.name : 'These files'} would need ${size} of memory, and a tab has room for ${MOST_BYTES / 2 ** 20} MiB. Use a smaller part, or the native tool.`;
  }
  // An empty file among others is left out (and counted) when they are read.
  if (total === 0) return `${files.length === 1 ? `${files[0]!.name} is` : 'All of these files are'} empty. Copy them again, then drop them once more.`;
  const mixed = files.length > 1 && files.some((file) => isCheckpoint(file.name));
  return mixed ? 'Drop a checkpoint alone: one .safetensors file at a time.' : null;
}

export const isCheckpoint = (name: string) => /\.safetensors$/i.test(name);

export class FilesPanel {
  constructor(readonly actions: FileActions) {
    this.#button('data-files', (files) => this.#take(files));
    this.#button('data-folder', (files) => this.#take(files));
    this.#button('checkpoint-file', (files) => this.#take(files));
    let depth = 0;
    const mark = (on: boolean) => document.body.classList.toggle('dropping', on);
    document.addEventListener('dragenter', (event) => { if (holdsFiles(event)) { depth++; mark(true); } });
    document.addEventListener('dragleave', (event) => { if (holdsFiles(event) && --depth <= 0) { depth = 0; mark(false); } });
    document.addEventListener('dragover', (event) => { if (holdsFiles(event)) event.preventDefault(); });
    document.addEventListener('drop', (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      depth = 0;
      mark(false);
      void this.#drop(event);
    });
  }

  #button(id: string, take: (files: File[]) => void): void {
    const input = byId(id, HTMLInputElement);
    element(`${id}-button`).addEventListener('click', () => input.click());
    input.addEventListener('change', () => {
      const files = [...(input.files ?? [])];
      input.value = '';
      if (files.length > 0) take(files);
    });
  }

  async #drop(event: DragEvent): Promise<void> {
    const items = [...(event.dataTransfer?.items ?? [])];
    const entries = items.map((item) => item.webkitGetAsEntry?.() ?? null);
    const plain = [...(event.dataTransfer?.files ?? [])];
    try {
      if (!entries.some((entry) => entry?.isDirectory)) return this.#take(plain);
      const found: { path: string; file: File }[] = [];
      for (const entry of entries) if (entry) await walk(entry, '', found);
      const refused = refusal(found.map(({ path, file }) => ({ name: path, size: file.size })));
      if (refused) return this.actions.refuse(refused);
      this.actions.data(await Promise.all(found.map(async ({ path, file }) => ({ name: path, bytes: await file.arrayBuffer() }))));
    } catch {
      this.actions.refuse('The browser could not read what was dropped. Choose the files by the button instead.');
    }
  }

  #take(files: File[]): void {
    const refused = refusal(files);
    if (refused) return this.actions.refuse(refused);
    const [first] = files;
    if (first && files.length === 1 && isCheckpoint(first.name)) this.actions.checkpoint(first);
    else this.actions.data(files);
  }
}

const holdsFiles = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false;

async function walk(entry: FileSystemEntry, path: string, found: { path: string; file: File }[]): Promise<void> {
  if (found.length > MOST_FILES) return;
  const name = path ? `${path}/${entry.name}` : entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    found.push({ path: name, file });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    const batch = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (batch.length === 0) return;
    for (const child of batch) await walk(child, name, found);
  }
}
