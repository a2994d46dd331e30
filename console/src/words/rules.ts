/** The server has the last word on passwords; this is what it asks for at least. */
export const LEAST_PASSWORD = 8;
