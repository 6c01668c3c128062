/** Animation: one clock for all canvases, and no movement for those who asked for none. */

const query = matchMedia('(prefers-reduced-motion: reduce)');

export function reducedMotion(): boolean {
  return query.matches;
}

/** Calls `frame` with 0 to 1 over `duration` milliseconds, eased; once with 1 where motion is not wanted. */
export function animate(duration: number, frame: (amount: number) => void): Promise<void> {
  if (reducedMotion() || document.hidden) {
    frame(1);
    return Promise.resolve();
  }
  return new Promise((resolve) => {
    const start = performance.now();
    const tick = (now: number) => {
      const amount = Math.min(1, Math.max(0, (now - start) / duration));
      frame(eased(amount));
      if (amount < 1) requestAnimationFrame(tick);
      else resolve();
    };
    requestAnimationFrame(tick);
  });
}

/** Slow at both ends. */
export function eased(t: number): number {
  return t < 0.5 ? 4 * t ** 3 : 1 - (-2 * t + 2) ** 3 / 2;
}

/** A part of an animation: 0 before `from`, 1 after `to`. */
export function part(amount: number, from: number, to: number): number {
  return Math.min(1, Math.max(0, (amount - from) / (to - from)));
}
