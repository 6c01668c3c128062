/** The repository's own files, as they were when the page was built. */

type Text = () => Promise<string>;

const found: Record<string, Text> = {
  ...import.meta.glob<string>('../../../shaders/*.wgsl', { query: '?raw', import: 'default' }),
  ...import.meta.glob<string>(
    [
      '../../../src/ops/{conv2d,relu,batch_norm2d,add,channel_pad,global_avg_pool,mod}.rs',
      '../../../src/optim/{sgd,csgd,forecast,sparsity}.rs',
      '../../../src/prune/{cluster,clusters,surgery,criteria,certificate}.rs',
      '../../../src/graph/coupling.rs',
    ],
    { query: '?raw', import: 'default' },
  ),
};

/** The text of `path`, as from the repository's root. */
export async function file(path: string): Promise<string> {
  const text = found[`../../../${path}`];
  if (!text) throw new Error(`${path} is not among the files of the lessons`);
  return text();
}

export const shader = (name: string) => file(`shaders/${name}.wgsl`);

/** Where a shader's twin is, as the head of its file says. */
export function twinOf(wgsl: string): { path: string; item: string } {
  const found = /^\/\/ Twin +(\w+) in (\S+\.rs)$/m.exec(wgsl);
  if (!found) throw new Error('the head of the shader names no twin');
  return { item: found[1]!, path: found[2]! };
}

export interface Excerpt {
  text: string;
  /** Number of the first line. */
  line: number;
}

/**
 * The function, struct or static `item` of a Rust file, with the comments and attributes above it, up to the brace that ends
 * it; without `item` the comment at the head of the file; `all` is the file.
 */
export function excerpt(source: string, item: string): Excerpt {
  const lines = source.split('\n');
  if (item === 'all') return { text: source.trimEnd(), line: 1 };
  if (item === 'head') {
    const end = lines.findIndex((line) => !line.startsWith('//'));
    return { text: lines.slice(0, end).join('\n'), line: 1 };
  }
  // `impl_X` is the block of X's methods.
  const words = item.startsWith('impl_') ? `impl ${item.slice(5)}` : `(static|fn|struct|enum|trait|const fn) ${item}`;
  const start = lines.findIndex((line) => new RegExp(`^\\s*(pub(\\([a-z]+\\))? )?${words}\\b`).test(line));
  if (start < 0) throw new Error(`${item} is not in the file`);
  const indent = /^\s*/.exec(lines[start]!)![0];
  let first = start;
  while (first > 0 && /^\s*(\/\/\/|#\[)/.test(lines[first - 1]!)) first--;
  // Not the line that ends a long list of arguments: there the body begins.
  const ends = (line: string) => line.startsWith(indent) && /^[})]/.test(line.slice(indent.length)) && !line.endsWith('{');
  const one = /[;}]$/.test(lines[start]!);
  const end = one ? start : lines.findIndex((line, i) => i > start && ends(line));
  const text = lines.slice(first, end + 1).map((line) => line.slice(indent.length));
  return { text: text.join('\n'), line: first + 1 };
}
