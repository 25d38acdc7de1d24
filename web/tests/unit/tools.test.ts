// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { kExampleTools, parseTools, readableArguments } from '../../src/chat/tools';

test('takes a list, one alone, and bare functions', () => {
  const whole = { type: 'function', function: { name: 'f' } };
  expect(parseTools(JSON.stringify([whole]))).toEqual({ tools: [whole] });
  expect(parseTools(JSON.stringify(whole))).toEqual({ tools: [whole] });
  expect(parseTools('{"name": "f"}')).toEqual({ tools: [whole] });
  expect(parseTools('  ')).toEqual({ tools: [] });
  expect(parseTools(kExampleTools)).toHaveProperty('tools.length', 1);
});

test('says what is wrong', () => {
  expect(parseTools('[{]')).toMatchObject({ problem: 'json' });
  expect(parseTools('[{"name": "f"}, {"function": {}}]')).toEqual({ problem: 'shape', detail: '2' });
  expect(parseTools('null')).toMatchObject({ problem: 'shape' });
});

test('shows arguments that are not JSON as they are', () => {
  expect(readableArguments('{"a":1}')).toBe('{\n  "a": 1\n}');
  expect(readableArguments('{"a":')).toBe('{"a":');
});
