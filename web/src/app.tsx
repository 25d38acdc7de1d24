// SPDX-License-Identifier: Apache-2.0
// The frame: the side bar (a drawer on narrow screens), the view, and the dialogs that any view may need.
import { signal } from '@preact/signals';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { keyWanted } from './api/client';
import { ChatView } from './chat/chat_view';
import { focusComposer } from './chat/composer';
import { ConversationList } from './chat/conversation_list';
import { PreferencesDialog } from './chat/preferences_dialog';
import { SearchDialog } from './chat/search_dialog';
import { CompareView } from './compare/compare_view';
import { Announcer } from './interface/announcer';
import { Dialog } from './interface/dialog';
import { Icon, IconButton, type IconName } from './interface/icons';
import { KeyDialog } from './interface/key_dialog';
import { go, hashOf, route, type View } from './interface/route';
import { offerShortcuts } from './interface/shortcuts';
import { ShortcutsDialog } from './interface/shortcuts_dialog';
import { Toasts } from './interface/toasts';
import { t } from './text/language';
import { TrainView } from './train/train_view';

type DialogName = 'search' | 'shortcuts' | 'preferences' | 'drawer';
const dialog = signal<DialogName | null>(null);
const show = (name: DialogName) => (dialog.value = name);
const close = () => (dialog.value = null);

const narrowScreen = matchMedia('(max-width: 820px)');
const isNarrow = signal(narrowScreen.matches);
narrowScreen.addEventListener('change', ({ matches }) => (isNarrow.value = matches));

const kViews: { view: View; icon: IconName }[] = [
  { view: 'chat', icon: 'chat' },
  { view: 'compare', icon: 'compare' },
  { view: 'train', icon: 'train' },
];

function newChat() {
  go('chat');
  focusComposer();
}

const kGlobal = [
  { keys: 'Ctrl+k', text: 'shortcut.search', act: () => show('search') },
  { keys: 'Ctrl+Shift+o', text: 'shortcut.newChat', act: newChat },
  { keys: 'Alt+1', text: 'shortcut.chat', act: () => go('chat') },
  { keys: 'Alt+2', text: 'shortcut.compare', act: () => go('compare') },
  { keys: 'Alt+3', text: 'shortcut.train', act: () => go('train') },
  { keys: '?', text: 'shortcut.sheet', act: () => show('shortcuts') },
] as const;
offerShortcuts([...kGlobal]);

export function App() {
  const { view } = route.value;
  const entered = useRef(false);
  useLayoutEffect(() => {
    document.title = view === 'chat' ? 'Puna' : `${t(`view.${view}`)} – Puna`;
    // A new view begins at its heading, the chat where one writes; a page just opened at its top.
    if (view !== 'chat' && entered.current) document.querySelector<HTMLElement>('main h1')?.focus();
    entered.current = true;
  }, [view]);
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById('main')?.focus();
        }}
      >
        {t('skip')}
      </a>
      <div class="frame">
        {isNarrow.value ? (
          <TopBar />
        ) : (
          <aside class="side" aria-label={t('side.label')}>
            {<SideBar />}
          </aside>
        )}
        <main id="main" tabIndex={-1}>
          {view === 'chat' && <ChatView />}
          {view === 'compare' && <CompareView />}
          {view === 'train' && <TrainView />}
        </main>
      </div>
      <Dialogs />
      <Toasts />
      <Announcer />
    </>
  );
}

const TopBar = () => (
  <div class="top-bar" role="banner">
    <IconButton icon="menu" label={t('side.open')} onClick={() => show('drawer')} />
    <Brand />
    <IconButton icon="plus" label={t('chat.new')} onClick={newChat} />
  </div>
);

const Brand = () => (
  <span class="brand">
    <svg viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
      <rect width="32" height="32" rx="8" class="brand-ground" />
      <path d="M4 24 12 11l5 8 3-4 8 9z" class="brand-hill" />
    </svg>
    Puna
  </span>
);

function SideBar() {
  const here = route.value.view;
  return (
    <>
      {!isNarrow.value && <Brand />}
      <button
        type="button"
        class="button new-chat"
        onClick={() => {
          close();
          newChat();
        }}
      >
        <Icon name="plus" />
        {t('chat.new')}
      </button>
      <button type="button" class="side-link" onClick={() => show('search')}>
        <Icon name="search" />
        {t('search.title')}
        <kbd aria-hidden="true">Ctrl K</kbd>
      </button>
      <nav class="views" aria-label={t('side.views')}>
        {kViews.map(({ view, icon }) => (
          <a key={view} class="side-link" href={hashOf(view)} aria-current={here === view ? 'true' : undefined} onClick={close}>
            <Icon name={icon} />
            {t(`view.${view}`)}
          </a>
        ))}
      </nav>
      <ConversationList onChosen={close} />
      <div class="side-foot">
        <button type="button" class="side-link" onClick={() => show('preferences')}>
          <Icon name="gear" />
          {t('preferences.title')}
        </button>
        <IconButton icon="help" label={t('shortcuts.title')} onClick={() => show('shortcuts')} />
      </div>
    </>
  );
}

function Dialogs() {
  const shown = dialog.value;
  return (
    <>
      {shown === 'drawer' && isNarrow.value && (
        <Dialog kind="drawer" title="Puna" onClose={close}>
          <SideBar />
        </Dialog>
      )}
      {shown === 'search' && <SearchDialog onClose={close} />}
      {shown === 'shortcuts' && <ShortcutsDialog onClose={close} />}
      {shown === 'preferences' && <PreferencesDialog onClose={close} />}
      {keyWanted.value && <KeyDialog onClose={() => (keyWanted.value = false)} />}
    </>
  );
}
