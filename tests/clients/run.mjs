// SPDX-License-Identifier: Apache-2.0
// Runs all clients' tests; 77 where they cannot be run: ctest takes that for skipped.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const skipped = 77;
const folder = fileURLToPath(new URL('.', import.meta.url));
const node = Number(process.versions.node.split('.')[0]);
if (!existsSync(`${folder}node_modules`)) {
  console.log('skipped: the clients are not here; `npm ci` in tests/clients fetches them');
  process.exit(skipped);
}
if (node < 18) {
  console.log(`skipped: the clients need Node 18, and this is ${process.version}`);
  process.exit(skipped);
}
const needs20 = ['langchain.test.mjs'];
const files = readdirSync(folder).filter((name) => name.endsWith('.test.mjs') && (node >= 20 || !needs20.includes(name)));
if (node < 20) console.log(`left out, for they need Node 20: ${needs20.join(', ')}`);
const { status } = spawnSync(process.execPath, ['--test', ...files], { cwd: folder, stdio: 'inherit' });
process.exit(status ?? 1);
