// SPDX-License-Identifier: Apache-2.0
// Tool definitions as a person pastes them: a list, one alone, or bare functions without {"type": "function"} around them.

export const kExampleTools = JSON.stringify(
  [
    {
      type: 'function',
      function: {
        name: 'get_weather',
        description: 'The weather of a place now',
        parameters: { type: 'object', properties: { place: { type: 'string' } }, required: ['place'] },
      },
    },
  ],
  null,
  2,
);

export type ParsedTools = { tools: unknown[] } | { problem: 'json' | 'shape'; detail: string };

export function parseTools(source: string): ParsedTools {
  if (source.trim() === '') return { tools: [] };
  let value: unknown;
  try {
    value = JSON.parse(source);
  } catch (cause) {
    return { problem: 'json', detail: cause instanceof Error ? cause.message : '' };
  }
  const tools: unknown[] = [];
  for (const [index, entry] of (Array.isArray(value) ? value : [value]).entries()) {
    const made = entry?.type === 'function' ? entry.function : entry;
    if (typeof made?.name !== 'string') return { problem: 'shape', detail: String(index + 1) };
    tools.push({ type: 'function', function: made });
  }
  return { tools };
}

/** Arguments for reading: indented where they are JSON, as they came where not. */
export function readableArguments(source: string): string {
  try {
    return JSON.stringify(JSON.parse(source), null, 2);
  } catch {
    return source;
  }
}
