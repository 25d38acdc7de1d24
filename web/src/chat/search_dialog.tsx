// SPDX-License-Identifier: Apache-2.0
// Ctrl-K: finds conversations by their words. Arrows move, Enter opens.
import { useEffect, useRef, useState } from 'preact/hooks';
import { Dialog } from '../interface/dialog';
import { go } from '../interface/route';
import { t } from '../text/language';
import { headings, searchConversations, type Heading } from './conversation_store';

const kLimit = 30;
const kPauseMs = 120;
type Found = Heading & { excerpt: string };

export function SearchDialog({ onClose }: { onClose: () => void }) {
  const [query, setQuery] = useState('');
  const [found, setFound] = useState<Found[]>([]);
  const [at, setAt] = useState(0);
  const newest = useRef(0);
  useEffect(() => {
    const mine = ++newest.current;
    const search = async () => {
      const result = query.trim() ? await searchConversations(query, kLimit) : recent();
      if (mine !== newest.current) return;
      setFound(result);
      setAt(0);
    };
    const timer = setTimeout(search, query.trim() ? kPauseMs : 0);
    return () => clearTimeout(timer);
  }, [query]);
  const open = (id?: string) => {
    if (!id) return;
    onClose();
    go('chat', id);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (step !== 0 && found.length > 0) setAt((at + step + found.length) % found.length);
    else if (event.key === 'Enter') open(found[at]?.id);
    else return;
    event.preventDefault();
  };
  return (
    <Dialog kind="palette" title={t('search.title')} onClose={onClose}>
      <input
        type="text"
        role="combobox"
        aria-label={t('search.label')}
        aria-expanded={found.length > 0}
        aria-controls="search-results"
        aria-activedescendant={found[at] ? `found-${at}` : undefined}
        placeholder={t('search.label')}
        value={query}
        autofocus
        onInput={({ currentTarget }) => setQuery(currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      {found.length > 0 ? (
        <ul id="search-results" role="listbox" aria-label={t('search.results')}>
          {found.map(({ id, title, excerpt }, index) => (
            <li
              key={id}
              id={`found-${index}`}
              role="option"
              aria-selected={index === at}
              onClick={() => open(id)}
              onMouseMove={() => setAt(index)}
            >
              <strong>{title || t('chat.untitled')}</strong>
              {excerpt && <span>{excerpt}</span>}
            </li>
          ))}
        </ul>
      ) : (
        <p class="note" role="status">
          {t('search.none')}
        </p>
      )}
    </Dialog>
  );
}

const recent = (): Found[] => headings.value.slice(0, 8).map((heading) => ({ ...heading, excerpt: '' }));
