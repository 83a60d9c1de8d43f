/** A service has the same colour on every page: a hash of its name picks it. */
const HUES = [205, 28, 262, 158, 340, 48, 186, 312, 96, 228, 12, 142, 284, 64, 172, 328, 218, 36, 248, 118];

/** Chosen so that the services of the demo mesh lie far apart. */
const BASIS = 24579;

export function serviceColour(service: string, dark: boolean): string {
  let hash = BASIS;
  for (let index = 0; index < service.length; index += 1) hash = Math.imul(hash ^ service.charCodeAt(index), 16777619);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  hash ^= hash >>> 12;
  const hue = HUES[(hash >>> 0) % HUES.length]!;
  const tone = (hash >>> 8) % 2;
  return dark ? `hsl(${hue} ${58 - tone * 12}% ${62 - tone * 6}%)` : `hsl(${hue} ${62 - tone * 14}% ${42 + tone * 8}%)`;
}
