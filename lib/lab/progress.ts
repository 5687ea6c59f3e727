// What a long piece of lab work tells its caller while it goes on. How that is shown is the caller's business.

/** One thing worth showing. `running` comes at least every two seconds while something is under way. */
export type Progress =
  | { readonly kind: 'note'; readonly text: string }
  | { readonly kind: 'started'; readonly title: string }
  | { readonly kind: 'running'; readonly title: string; readonly seconds: number; readonly detail?: string }
  | { readonly kind: 'finished'; readonly title: string; readonly seconds: number; readonly detail?: string }
  | { readonly kind: 'failed'; readonly title: string; readonly seconds: number }

/** Takes what there is to show. */
export type Report = (progress: Progress) => void

/** Sets what a running piece of work is doing right now. */
export type Detail = (text: string) => void

/**
 * Runs `work` under a title: reports its start, its elapsed time at least every two seconds, and its end.
 * Returns what `work` returns and throws what it throws.
 */
export async function timed<Result>(
  report: Report,
  title: string,
  work: (detail: Detail) => Promise<Result>,
): Promise<Result> {
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1000
  let detail: string | undefined
  report({ kind: 'started', title })
  const ticker = setInterval(() => report({ kind: 'running', title, seconds: seconds(), detail }), 1900)
  try {
    const result = await work(text => {
      detail = text
    })
    report({ kind: 'finished', title, seconds: seconds(), detail })
    return result
  } catch (error) {
    report({ kind: 'failed', title, seconds: seconds() })
    throw error
  } finally {
    clearInterval(ticker)
  }
}
