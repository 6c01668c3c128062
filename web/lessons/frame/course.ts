/** The lessons in their order; the frame of every page, the contents and the tests read it. */

export interface Lesson {
  /** File name without `.html`. */
  file: string;
  title: string;
  /** One sentence for the contents. */
  about: string;
  minutes: number;
  /** What a reader should know before. */
  needs: string;
}

export const LESSONS: readonly Lesson[] = [
  {
    file: '01-convolution', title: 'A convolution', minutes: 15,
    about: 'One output pixel by hand, then the shader that computes all of them.',
    needs: 'Sums and tables of numbers; that a picture is one.',
  },
  {
    file: '02-backward', title: 'The backward pass', minutes: 20,
    about: 'Where each gradient comes from, and how to catch a wrong one by finite differences.',
    needs: 'Lesson 1; what a derivative is.',
  },
  {
    file: '03-gpu', title: 'GPU programming with convolution', minutes: 20,
    about: 'Invocations, workgroups, tiles; why the fast kernel is fast, measured on your device.',
    needs: 'Lesson 1; loops and arrays in any language.',
  },
  {
    file: '04-batch-norm', title: 'Batch norm', minutes: 15,
    about: 'Mean, variance, two numbers to learn, and a formula that loses everything in float32.',
    needs: 'Lesson 1; mean and variance.',
  },
  {
    file: '05-sgd', title: 'SGD, momentum and the centripetal term', minutes: 20,
    about: 'Filters as points in a plane, pulled to their centres; forecast against measurement.',
    needs: 'Lesson 2.',
  },
  {
    file: '06-clusters', title: 'Clusters', minutes: 12,
    about: 'Which filters should become one: k-means on real filters, even and imbalanced clusters.',
    needs: 'Lesson 5.',
  },
  {
    file: '07-surgery', title: 'Surgery', minutes: 15,
    about: 'Why identical filters can be cut for free, and what must agree for it.',
    needs: 'Lessons 4 and 6.',
  },
  {
    file: '08-couplings', title: 'Residual couplings', minutes: 15,
    about: 'Channels that can only go together. Try to break one.',
    needs: 'Lesson 7; what a residual block is (told again there).',
  },
  {
    file: '09-zero-or-identical', title: 'Zeroing against identity', minutes: 15,
    about: 'Group lasso beside centripetal SGD, on the same network and the same images.',
    needs: 'Lessons 5 and 7.',
  },
  {
    file: '10-how-far', title: 'How far to cut', minutes: 12,
    about: 'Sensitivity curves, and multiply-adds against time on your device.',
    needs: 'Lessons 7 and 9.',
  },
];
