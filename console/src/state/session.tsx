// Who is logged in.

import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useState } from 'react';
import { Failure, get, onSignedOut, post, setCsrf } from '../api/client';
import type { Me } from '../api/types';
import { useText } from './preferences';
import { connect, forget } from './store';

export type Session =
  | { stage: 'asking' }
  | { stage: 'out'; setup: boolean; ended: boolean; problem: Failure | null }
  | { stage: 'in'; me: Me };

interface Value {
  session: Session;
  login: (name: string, password: string) => Promise<void>;
  logout: () => Promise<void>;
  ask: () => Promise<void>;
}

const Context = createContext<Value | null>(null);

export function SessionProvider({ children }: { children: ReactNode }) {
  const [session, setSession] = useState<Session>({ stage: 'asking' });
  const { language } = useText();

  const out = useCallback((setup: boolean, ended: boolean, problem: Failure | null) => {
    setCsrf('');
    forget();
    setSession({ stage: 'out', setup, ended, problem });
  }, []);
  const ended = useCallback(() => out(false, true, null), [out]);

  const ask = useCallback(async () => {
    try {
      const me = await get<Me>('/me');
      setCsrf(me.csrf);
      setSession({ stage: 'in', me });
    } catch (error) {
      const failure = error instanceof Failure ? error : new Failure('other', String(error));
      out(failure.setup, false, failure.kind === 'unauthenticated' ? null : failure);
    }
  }, [out]);

  useEffect(() => {
    onSignedOut(ended);
    void ask();
  }, [ask, ended]);

  const inside = session.stage === 'in';
  // Another language has everything told anew in it.
  useEffect(() => (inside ? connect(ended) : undefined), [inside, language, ended]);

  const value = useMemo<Value>(
    () => ({
      session,
      ask,
      login: async (name, password) => {
        const { csrf } = await post<{ csrf: string }>('/login', { name, password });
        setCsrf(csrf);
        await ask();
      },
      logout: async () => {
        await post('/logout').catch(() => undefined);
        out(false, false, null);
      },
    }),
    [session, ask, out],
  );
  return <Context.Provider value={value}>{children}</Context.Provider>;
}

export function useSession(): Value {
  const value = useContext(Context);
  if (!value) throw new Error('useSession outside of SessionProvider');
  return value;
}

/** Who is logged in; only below the log-in. */
export function useMe(): Me {
  const { session } = useSession();
  if (session.stage !== 'in') throw new Error('useMe while nobody is logged in');
  return session.me;
}
