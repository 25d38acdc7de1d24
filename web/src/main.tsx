// SPDX-License-Identifier: Apache-2.0
import { render } from 'preact';
import { refreshServer } from './api/server_state';
import { App } from './app';
import { loadHeadings } from './chat/conversation_store';
import { applyPreferences } from './interface/preferences';
import { listenForShortcuts } from './interface/shortcuts';
import './style/index.css';

applyPreferences();
listenForShortcuts();
void loadHeadings();
void refreshServer();
render(<App />, document.getElementById('app')!);
