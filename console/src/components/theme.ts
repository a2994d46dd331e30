// Colours that keep a contrast of 4.5 to 1 (WCAG 2.1 AA), in light and dark.

import { type ThemeConfig, theme } from 'antd';

// The style sheet must not cut motions short: their end is what the components wait for.
const motion = !globalThis.matchMedia?.('(prefers-reduced-motion: reduce)').matches;

const shared = { motion, borderRadius: 6, wireframe: false, motionDurationMid: '0.12s', motionDurationSlow: '0.18s' };

const light: ThemeConfig = {
  algorithm: theme.defaultAlgorithm,
  token: {
    ...shared,
    colorPrimary: '#0958d9',
    colorPrimaryHover: '#0747b5',
    colorLink: '#0958d9',
    colorLinkHover: '#0747b5',
    colorError: '#cf1322',
    colorErrorHover: '#a8071a',
    colorTextDescription: 'rgba(0,0,0,0.65)',
    colorTextTertiary: 'rgba(0,0,0,0.65)',
    colorTextPlaceholder: 'rgba(0,0,0,0.6)',
    colorBgLayout: '#f4f6f9',
  },
};

const dark: ThemeConfig = {
  algorithm: theme.darkAlgorithm,
  token: {
    ...shared,
    colorPrimary: '#1554ad',
    colorPrimaryHover: '#1a64c9',
    colorLink: '#85b8ff',
    colorError: '#d9363e',
    colorTextDescription: 'rgba(255,255,255,0.72)',
    colorTextTertiary: 'rgba(255,255,255,0.72)',
    colorTextPlaceholder: 'rgba(255,255,255,0.6)',
  },
  components: {
    Button: { colorError: '#ff7875', defaultHoverColor: '#85b8ff', defaultHoverBorderColor: '#85b8ff' },
    Tabs: { itemSelectedColor: '#85b8ff', itemHoverColor: '#85b8ff', inkBarColor: '#85b8ff' },
  },
};

export const themeOf = (isDark: boolean): ThemeConfig => (isDark ? dark : light);
