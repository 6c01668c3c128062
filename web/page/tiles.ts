/** Where the tiles of a layer's filters lie: blocks of one cluster each, flowing in lines. */

export interface Slot { x: number; y: number }
export interface Block { members: number[]; x: number; y: number; width: number; height: number; columns: number }
export interface TileLayout { tile: number; slots: Slot[]; blocks: Block[]; height: number }

const LARGEST = 76;
const SMALLEST = 7;

/** The layout with the largest tiles that fit into `width` by `height`. */
export function layoutTiles(clusters: number[][], rows: number, width: number, height: number): TileLayout {
  for (let tile = LARGEST; tile > SMALLEST; tile--) {
    const layout = flow(clusters, rows, width, tile);
    if (layout.height <= height) return layout;
  }
  return flow(clusters, rows, width, SMALLEST);
}

function flow(clusters: number[][], rows: number, width: number, tile: number): TileLayout {
  const gap = Math.max(1, Math.round(tile / 12));
  const padding = Math.max(2, Math.round(tile / 8));
  const between = Math.max(3, Math.round(tile / 5));
  const most = Math.max(1, Math.floor((width - 2 * padding + gap) / (tile + gap)));
  const slots: Slot[] = Array.from({ length: rows }, () => ({ x: 0, y: 0 }));
  const blocks: Block[] = [];
  let [x, y, line] = [0, 0, 0];
  for (const members of clusters) {
    const columns = Math.min(members.length, most);
    const lines = Math.ceil(members.length / columns);
    const size = (n: number) => n * tile + (n - 1) * gap + 2 * padding;
    const [w, h] = [size(columns), size(lines)];
    if (x > 0 && x + w > width) [x, y, line] = [0, y + line + between, 0];
    members.forEach((row, i) => {
      slots[row] = {
        x: x + padding + (i % columns) * (tile + gap),
        y: y + padding + Math.floor(i / columns) * (tile + gap),
      };
    });
    blocks.push({ members, x, y, width: w, height: h, columns });
    x += w + between;
    line = Math.max(line, h);
  }
  return { tile, slots, blocks, height: y + line };
}

/** Where member `index` of `block` is drawn when its cluster is drawn together by `amount` (0 to 1). */
export function drawnTogether(block: Block, slot: Slot, index: number, tile: number, amount: number): Slot {
  const step = Math.min(4, tile / 8) * (block.members.length > 6 ? 6 / block.members.length : 1);
  const shift = (index - (block.members.length - 1) / 2) * step;
  const pile = {
    x: block.x + (block.width - tile) / 2 + shift,
    y: block.y + (block.height - tile) / 2,
  };
  return { x: slot.x + (pile.x - slot.x) * amount, y: slot.y + (pile.y - slot.y) * amount };
}
