/** Colours of the theme for canvases, and scales that the colour-blind can read. */

export interface Theme { dark: boolean; ink: string; muted: string; line: string; panel: string; accent: string; warm: string; good: string; alone: string; font: string }

const dark = matchMedia('(prefers-color-scheme: dark)');
let cached: Theme | null = null;

export function theme(): Theme {
  if (cached) return cached;
  const style = getComputedStyle(document.documentElement);
  const read = (name: string) => style.getPropertyValue(`--${name}`).trim();
  cached = {
    dark: dark.matches,
    ink: read('ink'), muted: read('muted'), line: read('line'), panel: read('panel'),
    accent: read('accent'), warm: read('warm'), good: read('good'), alone: read('alone'),
    font: getComputedStyle(document.body).fontFamily,
  };
  return cached;
}

export function onTheme(listener: () => void): void {
  dark.addEventListener('change', () => {
    cached = null;
    listener();
  });
}

/** Okabe and Ito's palette without its black and yellow: eight would need more, so clusters are also grouped. */
const LIGHT = ['#0072b2', '#d55e00', '#009e73', '#b8589b', '#3a9fd6', '#b97e00'];
const DARK = ['#4da6dd', '#f0803c', '#2cc39a', '#df8bc0', '#8fd0f5', '#e6b53c'];

/** The colour of the cluster that is `index`-th in the list of clusters; grey for a filter that stays alone. */
export function clusterColour(index: number, size: number): string {
  if (size < 2) return theme().alone;
  const palette = theme().dark ? DARK : LIGHT;
  return palette[index % palette.length]!;
}

type Rgb = [number, number, number];
const BLUE: Rgb = [33, 102, 172];
const ORANGE: Rgb = [208, 88, 12];
const BLUE_DARK: Rgb = [90, 168, 235];
const ORANGE_DARK: Rgb = [247, 140, 60];

/** -1 to 1 as blue, through the paper's colour, to orange. */
export function diverging(value: number): Rgb {
  const isDark = theme().dark;
  const paper: Rgb = isDark ? [30, 35, 40] : [246, 246, 243];
  const end = value < 0 ? (isDark ? BLUE_DARK : BLUE) : isDark ? ORANGE_DARK : ORANGE;
  const amount = Math.min(1, Math.abs(value)) ** 0.75;
  return [0, 1, 2].map((i) => Math.round(paper[i]! + (end[i]! - paper[i]!) * amount)) as Rgb;
}
