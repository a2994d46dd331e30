// Something fetched once, and again when asked or when its name changes.

import { useCallback, useEffect, useState } from 'react';

export interface Loaded<T> {
  data: T | null;
  error: unknown;
  loading: boolean;
  again: () => void;
}

export function useLoad<T>(name: string | null, load: () => Promise<T>): Loaded<T> {
  const [round, setRound] = useState(0);
  const [found, setFound] = useState<{ name: string | null; data: T | null; error: unknown; loading: boolean }>({
    name: null,
    data: null,
    error: null,
    loading: true,
  });
  useEffect(() => {
    if (name === null) return undefined;
    let current = true;
    setFound((old) => ({ ...old, loading: true, data: old.name === name ? old.data : null }));
    load().then(
      (data) => current && setFound({ name, data, error: null, loading: false }),
      (error: unknown) => current && setFound((old) => ({ ...old, name, error, loading: false })),
    );
    return () => {
      current = false;
    };
    // `load` is made anew by each render; its name says when it is another one.
  }, [name, round]);
  const again = useCallback(() => setRound((old) => old + 1), []);
  return { data: found.data, error: found.error, loading: found.loading, again };
}
