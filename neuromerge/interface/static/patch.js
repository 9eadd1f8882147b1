/* Changes laid over a figure, as RFC 7396 says: key by key, null removes; as figures/patch.py. */
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

export function mergePatch(target, change) {
  if (!isObject(change)) return change;
  const result = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(change)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}
