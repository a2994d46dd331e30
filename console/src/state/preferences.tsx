// Language and colours: chosen by the person, kept in this browser.

import { createContext, type ReactNode, useContext, useEffect, useMemo, useState } from 'react';
import { setLanguage } from '../api/client';
import type { Language } from '../api/types';
import { isKey, type Key, type Params, preferred, translate } from '../i18n/translate';
import { type StateKind, stateKey } from '../words/states';

interface Preferences {
  language: Language;
  dark: boolean;
  choose: (language: Language) => void;
  setDark: (dark: boolean) => void;
  t: (key: Key, params?: Params) => string;
  /** A state's name, and one sentence on what it means. */
  state: (kind: StateKind, state: string) => { name: string; means: string };
  time: (rfc3339: string | number) => string;
}

const Context = createContext<Preferences | null>(null);

/** A browser may forbid storage: then the choice lasts as long as the page. */
function kept(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function keep(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    /* The choice lasts as long as the page. */
  }
}

const LANGUAGE = 'hotpair.language';
const COLOURS = 'hotpair.colours';

export function PreferencesProvider({ children }: { children: ReactNode }) {
  const [language, setChosen] = useState<Language>(() => preferred(kept(LANGUAGE), navigator.languages));
  const [dark, setColours] = useState(() => {
    const chosen = kept(COLOURS);
    return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  });
  // Requests made while this renders shall already carry it.
  setLanguage(language);
  useEffect(() => {
    document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  }, [language]);
  useEffect(() => {
    document.documentElement.dataset.colours = dark ? 'dark' : 'light';
  }, [dark]);

  const value = useMemo<Preferences>(() => {
    const t = (key: Key, params?: Params) => translate(language, key, params);
    const format = new Intl.DateTimeFormat(language === 'zh' ? 'zh-CN' : 'en-GB', {
      dateStyle: 'short',
      timeStyle: 'medium',
    });
    return {
      language,
      dark,
      t,
      choose: (next) => {
        keep(LANGUAGE, next);
        setChosen(next);
      },
      setDark: (next) => {
        keep(COLOURS, next ? 'dark' : 'light');
        setColours(next);
      },
      state: (kind, state) => {
        const key = `state.${kind}.${stateKey(state)}`;
        const means = `${key}.means`;
        return { name: isKey(key) ? t(key) : state, means: isKey(means) ? t(means) : state };
      },
      time: (moment) => {
        const date = new Date(moment);
        return Number.isNaN(date.getTime()) ? String(moment) : format.format(date);
      },
    };
  }, [language, dark]);
  return <Context.Provider value={value}>{children}</Context.Provider>;
}

export function useText(): Preferences {
  const value = useContext(Context);
  if (!value) throw new Error('useText outside of PreferencesProvider');
  return value;
}
