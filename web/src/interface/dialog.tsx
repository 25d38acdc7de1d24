// SPDX-License-Identifier: Apache-2.0
// A modal dialog of the browser's own kind: it keeps the focus inside, closes on Escape and gives the focus back.
import type { ComponentChildren } from 'preact';
import { useId, useLayoutEffect, useRef } from 'preact/hooks';
import { t } from '../text/language';
import { IconButton } from './icons';

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  kind?: 'centre' | 'sheet' | 'drawer' | 'palette';
}

export function Dialog({ title, onClose, children, kind = 'centre' }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const heading = useId();
  // With its rendering, not after it: a key pressed in between would go to the page, and the dialog stay.
  useLayoutEffect(() => {
    const dialog = element.current!;
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  // Closed at once, not with the next rendering: a shortcut pressed right after belongs to the page again.
  const leave = () => {
    element.current?.close();
    onClose();
  };
  return (
    <dialog
      ref={element}
      class={`dialog ${kind}`}
      aria-labelledby={heading}
      onCancel={(event) => {
        if (event.target !== element.current) return;
        event.preventDefault();
        leave();
      }}
      onMouseDown={(event) => event.target === element.current && leave()}
    >
      <div class="dialog-inside">
        <header class="dialog-head">
          <h2 id={heading}>{title}</h2>
          <IconButton icon="close" label={t('action.close')} onClick={leave} />
        </header>
        <div class="dialog-body">{children}</div>
      </div>
    </dialog>
  );
}
