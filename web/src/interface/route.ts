// SPDX-License-Identifier: Apache-2.0
// The view in the address: #/chat/<conversation>, #/compare, #/train. Back and forward work, and a view can be bookmarked.
import { signal } from '@preact/signals';

export type View = 'chat' | 'compare' | 'train';
export interface Route {
  view: View;
  id: string;
}

export function routeOf(hash: string): Route {
  const [, view, id] = /^#\/(chat|compare|train)(?:\/([^/]+))?$/.exec(hash) ?? [];
  return { view: (view as View) ?? 'chat', id: id ? decodedOrEmpty(id) : '' };
}

function decodedOrEmpty(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return '';
  }
}

export const route = signal(routeOf(location.hash));
addEventListener('hashchange', () => (route.value = routeOf(location.hash)));

export const hashOf = (view: View, id = '') => `#/${view}${id ? `/${encodeURIComponent(id)}` : ''}`;

export function go(view: View, id = '', replace = false) {
  const hash = hashOf(view, id);
  if (location.hash === hash) return;
  if (replace) history.replaceState(null, '', hash);
  else history.pushState(null, '', hash);
  route.value = routeOf(hash);
}
addEventListener('popstate', () => (route.value = routeOf(location.hash)));
